"""Erasure: what goes, what stays, and that the log tells of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from rootstream_store import events
from rootstream_store.cli import main
from rootstream_store.errors import InvalidInput
from rootstream_store.events import NewEvent
from rootstream_store.records import ErasureReport
from rootstream_store.store import Store

from ..undo import rolled_back

LATER = datetime(2090, 1, 1, tzinfo=UTC)


@pytest.fixture
def filled(store: Store) -> Store:
    """Two aggregates of two users each, of which "old" is archived, and a snapshot of each."""
    for name in ("new", "old"):
        events.append_many(
            store,
            "Stream",
            name,
            [NewEvent("E", {"mail": f"{n}@example.org"}, {"ip": "::1"}, user_id=7 + n % 2) for n in range(6)],
        )
        events.save_snapshot(store, "Stream", name, version=6, state={"mail": "5@example.org"})
    events.append(store, "Stream", "other", "E", {"mail": "of nobody"})
    events.save_snapshot(store, "Stream", "other", version=1, state={})
    events.close(store, "Stream", "old")
    assert events.archive(store, before=LATER).events == 6
    return store


def all_events(store: Store) -> list[dict[str, Any]]:
    return [json.loads(json.dumps(_plain(event))) for event in events.read_all(store)]


def _plain(event: Any) -> dict[str, Any]:
    return {name: getattr(event, name) for name in event.__struct_fields__} | {
        "event_id": str(event.event_id),
        "timestamp": event.timestamp.isoformat(),
    }


def test_the_events_of_a_user_are_emptied_and_nothing_else_changes(filled: Store) -> None:
    before = all_events(filled)
    report = events.erase(filled, user_id=7, reason="art. 17", requested_by="privacy@example.org")
    assert report == ErasureReport(operation=1, events=3, archived_events=3, aggregates=2, snapshots=2)
    *after, told = all_events(filled)
    for event in before:
        if event["user_id"] == 7:
            event["event_data"] = {}
            event["metadata"] = {"erased": {"operation": 1, "at": after[0]["metadata"]["erased"]["at"]}}
    assert after == before
    assert (told["aggregate_type"], told["aggregate_id"], told["version"]) == ("event_log", "erasures", 1)
    assert told["event_type"] == "EventsErased"
    data = told["event_data"]
    assert len(bytes.fromhex(data.pop("digest"))) == 32
    assert data == {
        "operation": 1,
        "reason": "art. 17",
        "requested_by": "privacy@example.org",
        "user_id": 7,
        "aggregates": [],
        "events": 6,
        "positions": [[1, 1], [3, 3], [5, 5], [7, 7], [9, 9], [11, 11]],
    }
    assert datetime.fromisoformat(after[0]["metadata"]["erased"]["at"]).tzinfo is not None


def test_reads_of_one_aggregate_and_of_one_user_see_it(filled: Store) -> None:
    events.erase(filled, user_id=7, reason="r")
    for name in ("new", "old"):
        read = events.read(filled, "Stream", name)
        assert [event.version for event in read] == [1, 2, 3, 4, 5, 6]
        assert [event.event_data == {} for event in read] == [True, False] * 3
    assert [event.event_data for event in events.list_by_user(filled, 7)] == [{}] * 6
    assert all("mail" in event.event_data for event in events.list_by_user(filled, 8))


def test_the_events_of_aggregates(filled: Store) -> None:
    report = events.erase(filled, aggregates=[("Stream", "old"), ("Stream", "none")], reason="r")
    assert (report.events, report.archived_events, report.aggregates, report.snapshots) == (0, 6, 1, 1)
    assert [event.event_data for event in events.read(filled, "Stream", "old")] == [{}] * 6
    assert all("mail" in event.event_data for event in events.read(filled, "Stream", "new"))
    told = events.read(filled, "event_log", "erasures")[0].event_data
    assert told["aggregates"] == [{"type": "Stream", "id": "old"}, {"type": "Stream", "id": "none"}]
    assert events.load_snapshot(filled, "Stream", "old") is None
    assert events.load_snapshot(filled, "Stream", "new") is not None


def test_a_user_and_aggregates_at_once(filled: Store) -> None:
    report = events.erase(filled, user_id=8, aggregates=[("Stream", "new"), ("Stream", "new")], reason="r")
    assert (report.events, report.archived_events) == (6, 3)


def test_erasing_again_erases_what_came_since(filled: Store) -> None:
    events.erase(filled, user_id=7, reason="r")
    first = all_events(filled)
    events.save_snapshot(filled, "Stream", "new", version=6, state={"mail": "from a reader that was late"})
    again = events.erase(filled, user_id=7, reason="r")
    assert again == ErasureReport(operation=None, events=0, archived_events=0, aggregates=0, snapshots=1)
    assert all_events(filled) == first
    assert events.load_snapshot(filled, "Stream", "other") is not None

    events.append(filled, "Stream", "new", "E", {"mail": "once more"}, user_id=7)
    assert events.erase(filled, user_id=7, reason="r").operation == 2
    assert [event.event_data["events"] for event in events.read(filled, "event_log", "erasures")] == [6, 1]


def test_an_erased_aggregate_goes_on_and_is_archived(filled: Store) -> None:
    events.erase(filled, aggregates=[("Stream", "new")], reason="r")
    assert events.append(filled, "Stream", "new", "E", {"n": 7}, expected=6).version == 7
    before = all_events(filled)
    events.close(filled, "Stream", "new")
    assert events.archive(filled, before=LATER).events == 7
    assert all_events(filled) == before
    assert events.erase(filled, aggregates=[("Stream", "new")], reason="r").archived_events == 1


def test_the_erased_words_are_nowhere_in_the_tables(filled: Store, connection: psycopg.Connection) -> None:
    events.erase(filled, aggregates=[("Stream", "new"), ("Stream", "old")], reason="r")
    for table in (
        "event_log",
        "event_segments",
        "snapshots",
        "event_erasures",
        "event_erased",
        "event_seals",
    ):
        found = connection.execute(
            f"SELECT count(*) FROM {table} WHERE {table}::text LIKE '%@example.org%'".encode()  # noqa: S608  # our own tables
        ).fetchone()
        assert found == (0,), table


def test_all_or_none(filled: Store) -> None:
    before = all_events(filled)
    with rolled_back(filled) as transaction:
        assert events.erase(transaction, user_id=7, reason="r").operation == 1
    assert all_events(filled) == before
    assert events.load_snapshot(filled, "Stream", "new") is not None
    assert events.erase(filled, user_id=7, reason="r").operation == 1


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({}, "user_id"),
        ({"user_id": 7, "reason": ""}, "reason"),
        ({"user_id": 7, "reason": "x" * 1001}, "reason"),
        ({"user_id": 7, "requested_by": ""}, "requested_by"),
        ({"user_id": "7"}, "user_id"),
        ({"aggregates": ["Stream"]}, "aggregates[0]"),
        ({"aggregates": "ab"}, "aggregates[0]"),
        ({"aggregates": [("Stream", "a"), ("Stream", None)]}, "aggregate_id"),
        ({"aggregates": [("event_log", "erasures")]}, "aggregates"),
    ],
)
def test_what_cannot_be_erased(filled: Store, arguments: dict[str, Any], field: str) -> None:
    before = all_events(filled)
    with pytest.raises(InvalidInput) as caught:
        events.erase(filled, **{"reason": "r", **arguments})
    assert caught.value.field == field
    assert all_events(filled) == before


def test_what_tells_of_erasures_is_not_erased(filled: Store, connection: psycopg.Connection) -> None:
    connection.execute(
        "INSERT INTO event_log (aggregate_id, aggregate_type, version, event_type, event_data, user_id) "
        "VALUES ('erasures', 'event_log', 1, 'Foreign', '{}', 7)"
    )
    connection.execute("INSERT INTO aggregates VALUES ('erasures', 'event_log', 1)")
    assert events.erase(filled, user_id=7, reason="r").events == 3
    assert events.read(filled, "event_log", "erasures")[1].event_type == "EventsErased"


# --- the door


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE event_log SET event_data = '{}'",
        "UPDATE event_segments SET event_data = event_data",
        "UPDATE event_erased SET operation = 2",
        "DELETE FROM event_erased",
        "TRUNCATE event_erased",
        "UPDATE event_erasures SET reason = 'another'",
        "DELETE FROM event_erasures",
        "TRUNCATE event_erasures",
        "UPDATE event_seals SET hash = hash",
        "DELETE FROM event_seals",
        "TRUNCATE event_seals",
    ],
)
def test_everything_else_stays_refused(filled: Store, connection: psycopg.Connection, change: str) -> None:
    events.seal(filled)
    with connection.transaction():
        connection.execute("SELECT erase_events(7, '{}', '{}', 'r', NULL)")
        with (
            pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"),
            connection.transaction(),
        ):
            connection.execute(change.encode())


@pytest.mark.parametrize(
    "column",
    [
        "position = position + 100",
        "version = version + 100",
        "timestamp = now()",
        "user_id = NULL",
        "event_id = gen_random_uuid()",
        "is_repeatable = TRUE",
        "aggregate_id = 'x'",
        "aggregate_type = 'x'",
        "event_type = 'x'",
    ],
)
def test_through_the_door_goes_nothing_but_data(
    filled: Store, connection: psycopg.Connection, column: str
) -> None:
    """Also for whoever opens it by hand."""
    connection.execute("SET rootstream.event_log_door = 'UPDATE event_log'")
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="nothing but event_data"):
        connection.execute(f"UPDATE event_log SET {column} WHERE user_id = 7".encode())  # noqa: S608  # a test's own text
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
        connection.execute("DELETE FROM event_log")


# --- the command


def run(store: Store, *arguments: str) -> int:
    return main(["events", "erase", *arguments, "--database-url", store.settings.database_url])


def test_the_command(filled: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(filled, "--user", "7", "--reason", "art. 17", "--yes") == 0
    out = capsys.readouterr().out
    assert out == "erasure 1: 3 live and 3 archived events of 2 aggregates, 2 snapshots deleted\n"
    assert run(filled, "--user", "7", "--reason", "art. 17", "--yes") == 0
    assert capsys.readouterr().out == "nothing was left to erase; 0 snapshots deleted\n"
    assert (
        run(
            filled,
            *("--aggregate", "Stream", "old", "--aggregate", "Stream", "new"),
            *("--reason", "r", "--requested-by", "somebody", "--yes", "--json"),
        )
        == 0
    )
    assert json.loads(capsys.readouterr().out)["archived_events"] == 3


def test_the_command_asks_first(
    filled: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = all_events(filled)
    assert run(filled, "--user", "7", "--reason", "r") == 2, "nobody is there to be asked"
    assert "--yes" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda question: "no")
    assert run(filled, "--user", "7", "--reason", "r") == 1
    assert all_events(filled) == before
    monkeypatch.setattr("builtins.input", lambda question: "erase")
    assert run(filled, "--user", "7", "--reason", "r") == 0
    assert all_events(filled) != before
