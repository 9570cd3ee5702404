"""The database itself keeps the log append-only, for every role and every program."""

from __future__ import annotations

import psycopg
import pytest

from rootstream_store import events
from rootstream_store.errors import PermissionDenied
from rootstream_store.queries import Query
from rootstream_store.store import Store

CHANGES = [
    "UPDATE event_log SET event_type = 'X'",
    "UPDATE event_log SET event_type = 'X' WHERE FALSE",
    "DELETE FROM event_log",
    "DELETE FROM event_log WHERE FALSE",
    "TRUNCATE event_log",
    "TRUNCATE event_log, snapshots CASCADE",
    "MERGE INTO event_log USING (SELECT 1) AS one ON TRUE WHEN MATCHED THEN DELETE",
    "INSERT INTO event_log (aggregate_id, aggregate_type, version, event_type, event_data) "
    "VALUES ('a', 'Stream', 1, 'X', '{}') "
    "ON CONFLICT (aggregate_id, aggregate_type, version) DO UPDATE SET event_type = 'X'",
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_refused(store: Store, connection: psycopg.Connection, change: str) -> None:
    events.append(store, "Stream", "a", "StreamStarted", {})
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(change.encode())
    with pytest.raises(PermissionDenied, match="append-only") as caught:
        store.run(Query("events/test", f"-- a change\n{change}", None))
    assert caught.value.sqlstate == "42501"
    assert not caught.value.retryable
    assert [event.event_type for event in events.read(store, "Stream", "a")] == ["StreamStarted"]


def test_no_two_events_share_a_version_even_for_plain_sql(
    store: Store, connection: psycopg.Connection
) -> None:
    events.append(store, "Stream", "a", "StreamStarted", {})
    with pytest.raises(psycopg.errors.UniqueViolation):
        connection.execute(
            "INSERT INTO event_log (aggregate_id, aggregate_type, version, event_type, event_data) "
            "VALUES ('a', 'Stream', 1, 'X', '{}')"
        )


def test_positions_are_drawn_one_by_one(connection: psycopg.Connection) -> None:
    """A cached block of numbers would hand a later event of an aggregate an earlier position."""
    row = connection.execute(
        "SELECT seqcache, seqcycle FROM pg_sequence WHERE seqrelid = 'event_log_position_seq'::regclass"
    ).fetchone()
    assert row == (1, False)
