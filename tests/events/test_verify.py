"""What a superuser changes behind the triggers is found, and the first of it is named."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from rootstream_store import events
from rootstream_store.cli import main
from rootstream_store.events import NewEvent
from rootstream_store.records import Fault
from rootstream_store.store import Store

LATER = datetime(2090, 1, 1, tzinfo=UTC)


@pytest.fixture
def sealed(store: Store, connection: psycopg.Connection) -> Store:
    """Stream "a" with positions 1 to 10, "old" with 11 to 20, archived, "b" with 21 to 30 but for 25, where a
    number is missing, in seals of eight; the events of user 7 are erased: 13, 17, 23 and 28. Their erasure is
    told by the event at 32; all is sealed."""
    append(store, "a", [1, 2, 3] * 3 + [1])
    append(store, "old", [1, 2, 7, 4, 5, 6, 7, 8, 9, None])
    append(store, "b", [1, 2, 7, 4])
    connection.execute("SELECT nextval('event_log_position_seq')")
    append(store, "b", [1, 2, 7, 4, 5])
    events.append(store, "Stream", "c", "Last", {"n": 99}, metadata={"ip": "::1"})
    events.close(store, "Stream", "old")
    assert events.archive(store, before=LATER).events == 10
    assert events.erase(store, user_id=7, reason="art. 17").operation == 1
    while events.seal(store, limit=8) is not None:
        pass
    found = events.verify(store)
    assert (found.fault, found.seals, found.last_position) == (None, 4, 32)
    connection.execute("SET session_replication_role = replica")  # no trigger stands in the way
    return store


def append(store: Store, name: str, users: Sequence[int | None]) -> None:
    events.append_many(
        store, "Stream", name, [NewEvent("E", {"n": n}, user_id=user) for n, user in enumerate(users)]
    )


def fault(store: Store, **how: Any) -> Fault:
    found = events.verify(store, **how).fault
    assert found is not None, "nothing was noticed"
    return found


COLUMNS = [
    "version = version + 100",
    "timestamp = timestamp + interval '1 microsecond'",
    "user_id = 3",
    "user_id = NULL",
    "event_id = gen_random_uuid()",
    "is_repeatable = NOT is_repeatable",
    "aggregate_id = 'A'",
    "aggregate_type = 'stream'",
    "event_type = 'F'",
    """event_data = '{"n": 10}'""",
    """event_data = '{"n": 1.0}'""",
    "event_data = '{}'",
    "metadata = '{}'",
    "metadata = 'null'",
]


@pytest.mark.parametrize("change", COLUMNS)
def test_a_changed_column(sealed: Store, connection: psycopg.Connection, change: str) -> None:
    connection.execute(f"UPDATE event_log SET {change} WHERE position = 2".encode())  # noqa: S608  # a test's own text
    connection.execute("UPDATE event_log SET event_type = 'later' WHERE position IN (9, 21)")
    found = fault(sealed)
    assert (found.kind, found.seal, found.position) == ("altered", 1, 2)
    assert found.version == (102 if "version" in change else 2)
    assert found.detail.endswith("at position 2 is not what was sealed")


def test_null_is_not_the_null_of_json(sealed: Store, connection: psycopg.Connection) -> None:
    connection.execute("""UPDATE event_log SET metadata = '{"ip": "::2"}' WHERE position = 31""")
    assert fault(sealed) == Fault(
        kind="altered",
        seal=4,
        position=31,
        aggregate_type="Stream",
        aggregate_id="c",
        version=1,
        detail="Stream 'c' version 1 at position 31 is not what was sealed",
    )


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ("DELETE FROM event_log WHERE position = 4", ("missing", 4)),
        ("DELETE FROM event_log WHERE position > 3", ("missing", 4)),
        ("DELETE FROM event_log WHERE position = 29", ("missing", 29)),
        ("TRUNCATE event_log", ("missing", 1)),
        ("UPDATE event_log SET position = 25 WHERE position = 24", ("missing", 24)),
        ("UPDATE event_log SET position = 25 WHERE position = 26", ("inserted", 25)),
        ("UPDATE event_log SET position = 100 WHERE position = 5", ("missing", 5)),
        (
            "INSERT INTO event_log (position, aggregate_id, aggregate_type, version, event_type, event_data) "
            "VALUES (25, 'x', 'Stream', 1, 'E', '{}')",
            ("inserted", 25),
        ),
        (
            "INSERT INTO event_log (position, aggregate_id, aggregate_type, version, event_type, event_data) "
            "VALUES (3, 'x', 'Stream', 1, 'E', '{}')",
            ("inserted", 3),
        ),
        (  # what is archived is there once more
            "INSERT INTO event_log SELECT position, version, timestamp, user_id, event_id, is_repeatable, "
            "aggregate_id, aggregate_type, event_type, event_data, metadata FROM event_log_archived "
            "WHERE position = 12",
            ("inserted", 12),
        ),
        (
            "UPDATE event_log SET position = 11 - position WHERE position IN (5, 6)",
            ("reordered", 5),
        ),
        (
            "UPDATE event_log SET position = 9 - position WHERE position IN (2, 7)",
            ("reordered", 2),
        ),
        (  # what two events say, not where they are
            "UPDATE event_log AS l SET event_data = o.event_data FROM event_log AS o "
            "WHERE l.position IN (5, 6) AND o.position = 11 - l.position",
            ("altered", 5),
        ),
        ("UPDATE event_segments SET event_data[3] = '{\"n\": 5}'", ("altered", 13)),
        ("UPDATE event_segments SET event_data[4] = '{\"n\": 5}'", ("altered", 14)),
        ("UPDATE event_segments SET user_ids[10] = 5", ("altered", 20)),
        ("UPDATE event_segments SET timestamps[1] = now()", ("altered", 11)),
        ("UPDATE event_segments SET metadata[2] = '{}'", ("altered", 12)),
        ("UPDATE event_segments SET first_version = 2, last_version = 11", ("altered", 11)),
        ("UPDATE event_segments SET aggregate_id = 'young'", ("altered", 11)),
        ("DELETE FROM event_segments", ("missing", 11)),
        ("UPDATE event_segments SET first_position = 40, last_position = 50", ("missing", 11)),
        # erased events
        ("UPDATE event_log SET event_data = '{\"n\": 1}' WHERE position = 23", ("altered", 23)),
        ("UPDATE event_log SET metadata = NULL WHERE position = 28", ("altered", 28)),
        ("UPDATE event_log SET user_id = 1 WHERE position = 23", ("altered", 23)),
        ("UPDATE event_log SET timestamp = now() WHERE position = 28", ("altered", 28)),
        ("DELETE FROM event_log WHERE position = 23", ("missing", 23)),
        ("UPDATE event_erased SET original_hash = sha256('x') WHERE position = 23", ("altered", 23)),
        ("UPDATE event_erased SET erased_hash = sha256('x') WHERE position = 28", ("altered", 28)),
        ("DELETE FROM event_erased WHERE position = 17", ("altered", 17)),
        ("UPDATE event_erasures SET erased_at = now()", ("altered", 13)),
        ("DELETE FROM event_erasures", ("altered", 13)),
        # the event that tells of the erasure
        ("UPDATE event_log SET event_data = event_data - 'reason' WHERE position = 32", ("altered", 32)),
        ("DELETE FROM event_log WHERE position = 32", ("missing", 32)),
    ],
)
def test_the_first_change_is_named(
    sealed: Store, connection: psycopg.Connection, change: str, wanted: tuple[str, int]
) -> None:
    connection.execute(change.encode())
    found = fault(sealed)
    assert (found.kind, found.position) == wanted, found
    assert found.seal == (wanted[1] + 7) // 8
    assert f"position {found.position}" in found.detail


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ("UPDATE event_seals SET hash = sha256('x') WHERE number = 2", ("seal_altered", 2)),
        ("UPDATE event_seals SET hash = sha256('x') WHERE number = 4", ("seal_altered", 4)),
        ("UPDATE event_seals SET previous_hash = sha256('x') WHERE number = 1", ("seal_altered", 1)),
        ("UPDATE event_seals SET previous_hash = sha256('x') WHERE number = 3", ("seal_altered", 2)),
        ("DELETE FROM event_seals WHERE number = 1", ("seal_missing", 1)),
        ("DELETE FROM event_seals WHERE number = 3", ("seal_missing", 3)),
        ("UPDATE event_seals SET number = 9 WHERE number = 4", ("seal_missing", 4)),
    ],
)
def test_a_changed_seal(
    sealed: Store, connection: psycopg.Connection, change: str, wanted: tuple[str, int]
) -> None:
    connection.execute(change.encode())
    found = fault(sealed)
    assert (found.kind, found.seal) == wanted, found
    assert found.position is None


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE event_seals SET last_position = 18 WHERE number = 2",
        "UPDATE event_seals SET fingerprints = overlay(fingerprints PLACING '\\x00' FROM 17) "
        "WHERE number = 2",
        "UPDATE event_seals SET positions = positions - int8multirange(int8range(11, 12)) WHERE number = 2",
        "UPDATE event_seals SET event_count = 7, fingerprints = substring(fingerprints FROM 1 FOR 56) "
        "WHERE number = 2",
    ],
)
def test_changed_fingerprints(sealed: Store, connection: psycopg.Connection, change: str) -> None:
    """They name an event, wrongly; that something is wrong is told all the same."""
    connection.execute(change.encode())
    assert fault(sealed).seal == 2


def test_a_change_sealed_over_is_found_at_the_seal_after_it(
    sealed: Store, connection: psycopg.Connection
) -> None:
    connection.execute("UPDATE event_log SET event_data = '{\"n\": 5}' WHERE position = 9")
    reseal(connection, 2)
    found = fault(sealed)
    assert (found.kind, found.seal) == ("seal_altered", 2)
    assert found.detail == "seal 2 has not the hash that seal 3 was made over"


def test_only_an_anchor_tells_that_all_seals_were_made_anew(
    sealed: Store, connection: psycopg.Connection
) -> None:
    anchor = events.verify(sealed).head
    connection.execute("UPDATE event_log SET event_data = '{\"n\": 5}' WHERE position = 9")
    for number in (2, 3, 4):
        reseal(connection, number)
    assert events.verify(sealed).fault is None
    assert fault(sealed, anchor=anchor).kind == "unanchored"


def reseal(connection: psycopg.Connection, number: int) -> None:
    """As somebody would who covers up a change."""
    connection.execute(
        """
        UPDATE event_seals AS seals
        SET previous_hash = before.hash, hash = made.hash, fingerprints = made.fingerprints,
            positions = made.positions, event_count = made.event_count
        FROM event_seals AS before, event_seals AS own,
            LATERAL seal_events(own.first_position, own.last_position, before.hash) AS made
        WHERE seals.number = %(number)s AND own.number = seals.number AND before.number = seals.number - 1
        """,
        {"number": number},
    )


def test_seals_made_anew_leave_no_event_out(sealed: Store, connection: psycopg.Connection) -> None:
    connection.execute("UPDATE event_log SET event_data = '{\"n\": 5}' WHERE position = 9")
    connection.execute("UPDATE event_seals SET first_position = 10 WHERE number = 2")
    for number in (2, 3, 4):
        reseal(connection, number)
    found = fault(sealed)
    assert (found.kind, found.seal) == ("seal_altered", 2)
    assert found.detail == "seal 2 does not begin where the one before it ends"


def test_only_an_anchor_tells_that_the_newest_are_gone(store: Store, connection: psycopg.Connection) -> None:
    append(store, "a", [1] * 20)
    while events.seal(store, limit=8) is not None:
        pass
    anchor = events.verify(store).head
    connection.execute("SET session_replication_role = replica")
    connection.execute("DELETE FROM event_log WHERE position > 8")
    connection.execute("DELETE FROM event_seals WHERE number > 1")
    connection.execute("UPDATE aggregates SET version = 8")
    assert events.verify(store).fault is None, "nothing is left that could tell"
    assert fault(store, anchor=anchor).kind == "unanchored"


# --- erasures that are none


FORGED = """
    WITH changed AS (
        UPDATE event_log AS l
        SET event_data = '{}', metadata = erased_metadata({operation}, {at})
        FROM (
            SELECT aggregate_id, aggregate_type, version, hash_event(
                position, version, timestamp, user_id, event_id, is_repeatable, aggregate_id, aggregate_type,
                event_type, event_data, metadata) AS hash
            FROM event_log
        ) AS o
        WHERE l.position = 3 AND (l.aggregate_id, l.aggregate_type, l.version)
            = (o.aggregate_id, o.aggregate_type, o.version)
        RETURNING l.*, o.hash, hash_event(
            l.position, l.version, l.timestamp, l.user_id, l.event_id, l.is_repeatable, l.aggregate_id,
            l.aggregate_type, l.event_type, l.event_data, l.metadata) AS erased_hash
    )
    INSERT INTO event_erased (
        position, version, operation, aggregate_id, aggregate_type, original_hash, erased_hash
    )
    SELECT position, version, {operation}, aggregate_id, aggregate_type, hash, erased_hash FROM changed
"""


def forge(connection: psycopg.Connection, operation: int, at: str) -> None:
    text = FORGED.replace("{operation}", str(operation)).replace("{at}", at)
    connection.execute(text.encode())


def test_an_erasure_added_to_one_that_there_was(sealed: Store, connection: psycopg.Connection) -> None:
    forge(connection, 1, "(SELECT erased_at FROM event_erasures)")
    found = fault(sealed)
    assert (found.kind, found.operation) == ("erasure_false", 1)


def test_an_erasure_that_is_not_on_record(sealed: Store, connection: psycopg.Connection) -> None:
    forge(connection, 2, "now()")
    assert fault(sealed).position == 3


def test_an_erasure_that_the_log_does_not_tell_of(sealed: Store, connection: psycopg.Connection) -> None:
    connection.execute(
        "INSERT INTO event_erasures SELECT 2, '2026-01-01Z', 1, 0, 2, 7, 'forged', NULL, '[]', '{[3,4)}', ''"
    )
    forge(connection, 2, "'2026-01-01Z'")
    connection.execute(
        "UPDATE event_erasures SET digest = sha256(e.original_hash || e.erased_hash) FROM event_erased AS e "
        "WHERE e.operation = 2 AND event_erasures.operation = 2"
    )
    found = fault(sealed)
    assert (found.kind, found.operation) == ("erasure_false", 2)
    assert found.detail == "erasure 2 is not as it is told: no event of the log tells of it"


def test_an_erasure_leaves_nothing_but_emptiness(store: Store, connection: psycopg.Connection) -> None:
    """However well the records of it are made to fit."""
    append(store, "a", [7] * 3)
    assert events.seal(store) is not None
    events.erase(store, user_id=7, reason="r")
    connection.execute("SET session_replication_role = replica")
    for statement in (
        "UPDATE event_log SET event_data = '{\"n\": 5}' WHERE position = 2",
        "UPDATE event_erased AS e SET erased_hash = hash_event(l.position, l.version, l.timestamp, "
        "l.user_id, l.event_id, l.is_repeatable, l.aggregate_id, l.aggregate_type, l.event_type, "
        "l.event_data, l.metadata) FROM event_log AS l WHERE l.position = 2 AND e.position = 2",
        "UPDATE event_erasures SET digest = (SELECT sha256(string_agg(original_hash || erased_hash, '' "
        "ORDER BY position)) FROM event_erased)",
        "UPDATE event_log SET event_data = event_data || jsonb_build_object('digest', encode(digest, 'hex')) "
        "FROM event_erasures WHERE position = 4",
    ):
        assert connection.execute(statement.encode()).rowcount == 1
    found = fault(store)
    assert (found.kind, found.position) == ("altered", 2)
    assert found.detail == "Stream 'a' version 2 at position 2 is not what its erasure left"


def test_what_was_erased_before_it_was_sealed(store: Store, connection: psycopg.Connection) -> None:
    append(store, "a", [7] * 3)
    events.erase(store, user_id=7, reason="r")
    assert events.verify(store).fault is None
    connection.execute("SET session_replication_role = replica")
    connection.execute("UPDATE event_erased SET original_hash = sha256('x') WHERE position = 2")
    found = fault(store)
    assert (found.kind, found.operation) == ("erasure_false", 1)
    assert found.detail.endswith("its event in the log tells otherwise")


@pytest.mark.parametrize(
    "change",
    [
        "reason = 'another'",
        "requested_by = 'somebody'",
        "user_id = 8",
        "user_id = NULL",
        """aggregates = '[{"id": "a", "type": "Stream"}]'""",
        "event_count = 3",
        "log_version = 2",
        "digest = sha256('x')",
    ],
)
def test_a_changed_record_of_an_erasure(sealed: Store, connection: psycopg.Connection, change: str) -> None:
    connection.execute(f"UPDATE event_erasures SET {change}".encode())  # noqa: S608  # a test's own text
    found = fault(sealed)
    assert (found.kind, found.operation) == ("erasure_false", 1)


def test_anybody_may_append_what_looks_like_an_erasure(sealed: Store) -> None:
    """It is in the log for everybody to see, and no reason to call the log forged."""
    events.append(sealed, "event_log", "erasures", "EventsErased", {"operation": 1, "reason": "none"})
    events.append(sealed, "event_log", "erasures", "EventsErased", ["nonsense"])
    assert events.verify(sealed).fault is None


# --- the commands


def test_the_commands(
    store: Store, connection: psycopg.Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["events", *arguments, "--database-url", store.settings.database_url])
        return code, *capsys.readouterr()

    assert run("seal") == (0, "", "all is sealed: there is no event\n")
    assert run("verify") == (
        0,
        "ok: 0 events in 0 seals up to position 0, 0 not sealed; anchor (no seal)\n",
        "",
    )
    append(store, "a", [1] * 20)
    code, out, _ = run("seal", "--limit", "8")
    first = events.find_last_seal(store)
    assert first is not None
    assert (code, out) == (0, f"seal 1: 8 events, positions 1 to 8, {first.hash.hex()}\n")
    code, out, _ = run("seal", "--all", "--limit", "8", "--json")
    assert [json.loads(line)["number"] for line in out.splitlines()] == [2, 3]
    assert run("seal") == (0, "", "all is sealed: up to position 20\n")
    head = json.loads(out.splitlines()[-1])["hash"]
    assert run("verify", "--anchor", head) == (
        0,
        f"ok: 20 events in 3 seals up to position 20, 0 not sealed; anchor {head}\n",
        "",
    )
    assert run("verify", "--anchor", "f" * 64)[:2] == (
        5,
        "unanchored: no seal has the hash of the anchor: seals were deleted or made anew\n",
    )
    connection.execute("SET session_replication_role = replica")
    connection.execute("UPDATE event_log SET event_data = '{}' WHERE position IN (7, 9)")
    line = "altered: Stream 'a' version 7 at position 7 is not what was sealed\n"
    assert run("verify") == (5, line, "")
    code, out, _ = run("verify", "--json")
    assert (code, json.loads(out)["fault"]["position"]) == (5, 7)
