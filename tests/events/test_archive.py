"""Archiving: what is moved and what is not, and that nothing of an event changes."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rootstream_store import events
from rootstream_store.cli import main
from rootstream_store.errors import Conflict, InvalidInput, NotFound
from rootstream_store.events import NewEvent
from rootstream_store.records import ArchiveReport
from rootstream_store.store import Store

from ..undo import rolled_back
from ..waiting import until

LATER = datetime(2090, 1, 1, tzinfo=UTC)
EVERY_VALUE = """
    SELECT
        row(
            position, version, timestamp, user_id, event_id, is_repeatable, aggregate_id, aggregate_type,
            event_type, event_data, metadata
        )::text
    FROM {}
    ORDER BY version
"""


def fill(store: Store, *names: str, count: int = 3) -> None:
    """Closed aggregates of type Stream, whose events lie among one another."""
    for number in range(count):
        for name in names:
            events.append(store, "Stream", name, "E", {"n": number}, user_id=number)
    for name in names:
        events.close(store, "Stream", name)


def live(connection: psycopg.Connection) -> int:
    row = connection.execute("SELECT count(*) FROM event_log").fetchone()
    assert row is not None
    return int(row[0])


# --- what is archived


def test_events_of_closed_aggregates_are_moved_whole(store: Store, connection: psycopg.Connection) -> None:
    fill(store, "a", "b")
    events.append(store, "Stream", "open", "E", {})
    before = events.read_all(store)
    report = events.archive(store, before=LATER)
    assert (report.aggregates, report.events, report.segments) == (2, 6, 2)
    assert live(connection) == 1
    assert events.read_all(store) == before
    assert events.archive(store, before=LATER).events == 0, "a second time there is nothing to do"


def test_an_aggregate_with_one_young_event_stays_whole(store: Store, connection: psycopg.Connection) -> None:
    fill(store, "a")
    middle = events.get(store, "Stream", "a", 3).timestamp
    assert events.archive(store, before=middle).events == 0
    assert live(connection) == 3
    assert events.archive(store, before=middle + timedelta(microseconds=1)).events == 3


def test_what_was_chosen_is_looked_at_again(store: Store, connection: psycopg.Connection) -> None:
    """Between the choice and the move it may have been opened, gone on, and been closed again."""
    fill(store, "a", "b", "young")
    events.reopen(store, "Stream", "a")
    youngest = events.get(store, "Stream", "young", 3)
    for before, to_position in ((youngest.timestamp, 100), (LATER, youngest.position - 1)):
        moved = connection.execute(
            "SELECT aggregates, events FROM archive_events('{a,young,b}', '{Stream,Stream,Stream}', %s, %s)",
            [before, to_position],
        ).fetchone()
        assert moved == ((1, 3) if before < LATER else (0, 0))
    assert {event.aggregate_id for event in events.read_all(store)} == {"a", "b", "young"}
    assert live(connection) == 6


def test_only_of_a_type_and_no_more_than_the_limit(store: Store, connection: psycopg.Connection) -> None:
    fill(store, *"abcde")
    events.append(store, "Other", "a", "E", {})
    events.close(store, "Other", "a")
    assert events.archive(store, before=LATER, aggregate_type="Nothing").aggregates == 0
    assert events.archive(store, before=LATER, aggregate_type="Stream", limit=2).aggregates == 2
    assert events.archive(store, before=LATER, dry_run=True) == ArchiveReport(
        aggregates=4, events=10, segments=0, bytes_before=0, bytes_after=0
    )
    assert live(connection) == 10
    seen: list[ArchiveReport] = []
    assert events.archive(store, before=LATER, on_progress=seen.append) == seen[-1]
    assert live(connection) == 0
    with pytest.raises(InvalidInput):
        events.archive(store, before=LATER, limit=0)


def test_more_aggregates_than_one_statement_takes(store: Store, connection: psycopg.Connection) -> None:
    names = [f"n{number}" for number in range(230)]
    fill(store, *names, count=1)
    seen: list[int] = []
    report = events.archive(store, before=LATER, on_progress=lambda part: seen.append(part.aggregates))
    assert (report.aggregates, seen) == (230, [100, 200, 230])
    assert live(connection) == 0
    assert [event.aggregate_id for event in events.read_all(store)] == names


def test_an_aggregate_that_somebody_holds_is_left_for_the_next_time(
    store: Store, connection: psycopg.Connection
) -> None:
    fill(store, "a", "b")
    with connection.transaction():
        connection.execute("UPDATE aggregates SET is_closed = FALSE WHERE aggregate_id = 'a'")
        assert events.archive(store, before=LATER).aggregates == 1
        assert len(events.read(store, "Stream", "a")) == 3
    events.append(store, "Stream", "a", "E", {"n": 3})
    assert events.archive(store, before=LATER).aggregates == 0


def test_nothing_is_archived_beyond_the_horizon(store: Store, connection: psycopg.Connection) -> None:
    fill(store, "a")
    with connection.transaction():
        connection.execute(
            "INSERT INTO event_log (aggregate_id, aggregate_type, version, event_type, event_data) "
            "VALUES ('x', 'Other', 1, 'E', '{}')"
        )
        fill(store, "b")
        assert events.archive(store, before=LATER).aggregates == 1
    assert events.archive(store, before=LATER).aggregates == 1


def test_in_a_transaction_all_or_none(store: Store, connection: psycopg.Connection) -> None:
    fill(store, "a")
    with rolled_back(store) as transaction:
        assert events.archive(transaction, before=LATER).events == 3
        assert len(events.read(transaction, "Stream", "a")) == 3
    assert live(connection) == 3
    assert len(events.read(store, "Stream", "a")) == 3


def test_close_and_reopen(store: Store) -> None:
    fill(store, "a")
    assert events.find_head(store, "Stream", "a") == events.close(store, "Stream", "a")
    events.archive(store, before=LATER)
    with pytest.raises(Conflict):
        events.append(store, "Stream", "a", "E", {})
    assert not events.reopen(store, "Stream", "a").is_closed
    assert events.append(store, "Stream", "a", "E", {"n": 3}, expected=3).version == 4
    assert [event.version for event in events.read(store, "Stream", "a")] == [1, 2, 3, 4]
    events.close(store, "Stream", "a")
    assert events.archive(store, before=LATER).events == 1
    assert [event.version for event in events.read(store, "Stream", "a", backward=True)] == [4, 3, 2, 1]
    for function in (events.close, events.reopen):
        with pytest.raises(NotFound):
            function(store, "Stream", "nobody")


# --- what it looks like


def test_a_segment_holds_a_thousand_events_and_they_take_a_fraction_of_the_room(
    store: Store, connection: psycopg.Connection
) -> None:
    data = {"viewers": 17, "quality": "1080p", "region": "eu-central-1", "note": "a payload of usual size"}
    for _ in range(5):
        events.append_many(store, "Stream", "a", [NewEvent("ViewerJoined", data, user_id=3)] * 500)
    events.close(store, "Stream", "a")
    report = events.archive(store, before=LATER)
    assert report.events == 2500
    found = connection.execute(
        "SELECT first_version, last_version, event_count FROM event_segments ORDER BY 1"
    ).fetchall()
    assert found == [(1, 1000, 1000), (1001, 2000, 1000), (2001, 2500, 500)]
    assert report.bytes_after < report.bytes_before / 4
    assert [
        event.version for event in events.read(store, "Stream", "a", after_version=990, limit=20)
    ] == list(range(991, 1011))


def test_large_payloads_end_a_segment_early(store: Store, connection: psycopg.Connection) -> None:
    large = {"text": "x" * 1_000_000}
    for _ in range(3):
        events.append_many(store, "Stream", "a", [NewEvent("E", large)] * 4)
    events.close(store, "Stream", "a")
    assert 3 <= events.archive(store, before=LATER).segments <= 4
    assert [event.event_data == large for event in events.read(store, "Stream", "a")] == [True] * 12


def test_a_missing_version_is_no_event(store: Store, connection: psycopg.Connection) -> None:
    """Only plain SQL can leave one out."""
    connection.execute("INSERT INTO aggregates VALUES ('a', 'Stream', 9, TRUE)")
    connection.execute(
        "INSERT INTO event_log (aggregate_id, aggregate_type, version, event_type, event_data) "
        "SELECT 'a', 'Stream', unnest('{1,2,5,6,9}'::int[]), 'E', '{}'"
    )
    assert events.archive(store, before=LATER).segments == 3
    assert [event.version for event in events.read(store, "Stream", "a")] == [1, 2, 5, 6, 9]


_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), inner, max_size=3
        )
    ),
    max_leaves=8,
).map(json.dumps)
_row = st.tuples(
    st.sampled_from(["infinity", "-infinity", "0001-01-01 00:00:00 BC", "1969-12-31 23:59:59.999999+00"])
    | st.datetimes(datetime(1900, 1, 1), datetime(9000, 1, 1)).map(str),
    st.none() | st.integers(-(2**63), 2**63 - 1),
    st.uuids(),
    st.booleans(),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=20),
    _json,
    st.none() | _json,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(_row, min_size=1, max_size=12))
def test_every_value_comes_back_as_it_was(connection: psycopg.Connection, rows: list[Any]) -> None:
    """To the microsecond and to the last digit, NULL apart from the null of JSON."""
    with connection.transaction(force_rollback=True):
        connection.execute("INSERT INTO aggregates VALUES ('a', 'Stream', %s, TRUE)", [len(rows)])
        for version, row in enumerate(rows, 1):
            connection.execute(
                "INSERT INTO event_log (aggregate_id, aggregate_type, version, timestamp, user_id, event_id, "
                "is_repeatable, event_type, event_data, metadata) "
                "VALUES ('a', 'Stream', %s, %s, %s, %s, %s, %s, %s, %s)",
                [version, *row],
            )
        before = connection.execute(EVERY_VALUE.format("event_log").encode()).fetchall()
        moved = connection.execute(
            "SELECT events FROM archive_events('{a}', '{Stream}', 'infinity', 9223372036854775807)"
        ).fetchone()
        if moved == (0,):  # infinity lies before nothing
            assert any(row[0] == "infinity" for row in rows)
            return
        assert connection.execute(EVERY_VALUE.format("event_log_archived").encode()).fetchall() == before
        assert len(before) == len(rows)


def test_numbers_keep_their_digits(store: Store, connection: psycopg.Connection) -> None:
    raw = b'{"a": 1.10, "b": 123456789012345678901234567890.000000000000000000001, "c": 1e5, "d": -0.0}'
    events.append(store, "Stream", "a", "E", raw, event_id=UUID(int=5))
    stored = connection.execute("SELECT event_data::text, timestamp::text FROM event_log").fetchone()
    events.close(store, "Stream", "a")
    events.archive(store, before=LATER)
    found = connection.execute("SELECT event_data::text, timestamp::text FROM event_log_archived").fetchone()
    assert found == stored
    assert events.get(store, "Stream", "a", 1).event_id == UUID(int=5)


# --- append-only


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE event_segments SET event_data = event_data",
        "DELETE FROM event_segments",
        "DELETE FROM event_segments WHERE FALSE",
        "TRUNCATE event_segments",
        "DELETE FROM event_log",
    ],
)
def test_a_segment_is_not_changed_either(store: Store, connection: psycopg.Connection, change: str) -> None:
    fill(store, "a")
    with connection.transaction():
        connection.execute("SELECT archive_events('{a}', '{Stream}', 'infinity', 10)")
        with (
            pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"),
            connection.transaction(),
        ):
            connection.execute(change.encode())
    assert len(events.read(store, "Stream", "a")) == 3


def test_the_door_is_shut_after_an_error_too(store: Store, connection: psycopg.Connection) -> None:
    fill(store, "a")
    with connection.transaction():
        # What it would make is there already.
        connection.execute(
            "INSERT INTO event_segments "
            "SELECT 1, 1, 1, 1, 1, now(), 'a', 'Stream', '{1}', '{now}', '{1}', "
            "ARRAY[gen_random_uuid()], '{t}', '{E}', ARRAY['{}'::jsonb], ARRAY['{}'::jsonb]"
        )
        with pytest.raises(psycopg.errors.UniqueViolation), connection.transaction():
            connection.execute("SELECT archive_events('{a}', '{Stream}', 'infinity', 10)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
            connection.execute("DELETE FROM event_log")


# --- meanwhile


def test_whoever_reads_meanwhile_misses_nothing_and_sees_nothing_twice(store: Store) -> None:
    names = [f"n{number}" for number in range(60)]
    fill(store, *names, count=10)
    wanted = [(event.position, event.version) for event in events.read_all(store)]
    assert len(wanted) == 600
    wrong: list[object] = []
    looks = [0]
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            with events.stream_all(store, size=50) as found:
                seen = [(event.position, event.version) for event in found]
            pages: list[tuple[int, int]] = []
            while page := events.read_all(store, after_position=pages[-1][0] if pages else 0, limit=70):
                pages += [(event.position, event.version) for event in page]
            looks[0] += 1
            if seen != wanted or pages != wanted:
                wrong.append((len(seen), len(pages)))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        until(lambda: looks[0] > 0)
        for _ in range(20):
            events.archive(store, before=LATER, limit=3)
        until(lambda: looks[0] > 3)
    finally:
        done.set()
        thread.join()
    assert not wrong
    assert events.archive(store, before=LATER).events == 0


# --- the command


def test_the_command(
    store: Store, connection: psycopg.Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: str) -> str:
        assert main(["events", "archive", *arguments, "--database-url", store.settings.database_url]) == 0
        return capsys.readouterr().out

    fill(store, "a", "b")
    assert run("--older-than", "1") == "archived: 0 events of 0 aggregates in 0 segments\n"
    assert run("--older-than", "0", "--dry-run") == "to archive: 6 events of 2 aggregates\n"
    assert live(connection) == 6
    first, second = run("--older-than", "0", "--limit", "1").splitlines()
    assert first == "archived: 3 events of 1 aggregates in 1 segments"
    assert second.startswith("bytes: ")
    report = json.loads(run("--older-than", "0", "--type", "Stream", "--json"))
    assert (report["aggregates"], report["events"]) == (1, 3)
    assert live(connection) == 0
