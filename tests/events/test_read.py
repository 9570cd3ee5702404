"""Reading events of an aggregate and of a user, and the plans of these reads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import psycopg
import pytest

from rootstream_store import events
from rootstream_store.errors import InvalidInput, NotFound, StoreClosed
from rootstream_store.events import NewEvent
from rootstream_store.queries import Query, sql_root
from rootstream_store.records import AggregateHead
from rootstream_store.repositories import users
from rootstream_store.store import Store

from ..factories import make_user


@pytest.fixture
def ten(store: Store) -> Store:
    """A store where Stream "a" has ten events, and others have some."""
    events.append(store, "Stream", "b", "E", {})
    events.append(store, "Other", "a", "E", {})
    events.append_many(store, "Stream", "a", [NewEvent("E", {"n": n}) for n in range(1, 11)])
    events.append(store, "Stream", "b", "E", {})
    return store


def versions(found: list[Any]) -> list[int]:
    assert [event.event_data["n"] for event in found] == [event.version for event in found]
    return [event.version for event in found]


@pytest.mark.parametrize(
    ("how", "wanted"),
    [
        ({}, range(1, 11)),
        ({"after_version": 0, "to_version": 10}, range(1, 11)),
        ({"after_version": 3}, range(4, 11)),
        ({"after_version": 10}, []),
        ({"after_version": 99}, []),
        ({"to_version": 3}, range(1, 4)),
        ({"after_version": 3, "to_version": 4}, [4]),
        ({"after_version": 4, "to_version": 4}, []),
        ({"after_version": 5, "to_version": 3}, []),
        ({"after_version": -5, "limit": 2}, [1, 2]),
        ({"backward": True}, range(10, 0, -1)),
        ({"backward": True, "limit": 3}, [10, 9, 8]),
        ({"backward": True, "after_version": 2, "to_version": 5}, [5, 4, 3]),
        ({"to_version": 2**63 - 1, "limit": 1000}, range(1, 11)),
    ],
)
def test_read(ten: Store, how: Any, wanted: Any) -> None:
    assert versions(events.read(ten, "Stream", "a", **how)) == list(wanted)


def test_reading_on_from_a_version_never_repeats_its_event(ten: Store) -> None:
    seen: list[int] = []
    for _ in range(4):
        seen += versions(events.read(ten, "Stream", "a", after_version=seen[-1] if seen else 0, limit=3))
    assert seen == list(range(1, 11))
    assert events.read(ten, "Stream", "a", after_version=10) == []


def test_nothing_there_is_an_empty_list(store: Store) -> None:
    assert events.read(store, "Stream", "a") == []
    assert events.find_head(store, "Stream", "a") is None
    assert events.get_version(store, "Stream", "a") == 0
    assert events.list_by_user(store, 1) == []
    with events.stream(store, "Stream", "a") as found:
        assert list(found) == []


@pytest.mark.parametrize("limit", [0, -1, 1001, 2**70, None, "5", True, 1.0])
def test_a_limit_that_is_none_is_refused(store: Store, limit: Any) -> None:
    with pytest.raises(InvalidInput) as read:
        events.read(store, "S", "a", limit=limit)
    with pytest.raises(InvalidInput) as listed:
        events.list_by_user(store, 1, limit=limit)
    assert (read.value.field, listed.value.field) == ("limit", "limit")


@pytest.mark.parametrize("field", ["after_version", "to_version"])
@pytest.mark.parametrize("value", ["1", 1.0, True, 2**63])
def test_a_version_that_is_none_is_refused(store: Store, field: str, value: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        events.read(store, "S", "a", **{field: value})
    assert caught.value.field == field


def test_get(ten: Store) -> None:
    assert versions([events.get(ten, "Stream", "a", 7)]) == [7]
    for key in (("Stream", "a", 11), ("Stream", "x", 1), ("Nothing", "a", 1), ("Stream", "a", 0)):
        with pytest.raises(NotFound) as caught:
            events.get(ten, *key)
        assert caught.value.entity == "event"
        assert caught.value.key == {"aggregate_type": key[0], "aggregate_id": key[1], "version": key[2]}


def test_head(ten: Store) -> None:
    assert events.find_head(ten, "Stream", "a") == AggregateHead(
        aggregate_id="a", aggregate_type="Stream", version=10, is_closed=False
    )
    assert events.get_version(ten, "Stream", "a") == 10


def test_stream_gives_all_in_order_and_may_be_left_early(store: Store) -> None:
    for _ in range(3):
        events.append_many(store, "Stream", "a", [NewEvent("E", {})] * 700)
    with events.stream(store, "Stream", "a", size=100) as found:
        assert isinstance(found, Iterator)
        assert [event.version for event in found] == list(range(1, 2101))
    with events.stream(store, "Stream", "a", after_version=1999, to_version=2050, size=7) as found:
        assert [event.version for event in found] == list(range(2000, 2051))
    with events.stream(store, "Stream", "a", size=10) as found:
        assert next(found).version == 1
    assert store._pool.in_use() == 0
    with store.transaction() as transaction:
        events.append(transaction, "Stream", "a", "E", {})
        with events.stream(transaction, "Stream", "a", after_version=2099) as found:
            assert [event.version for event in found] == [2100, 2101]


def test_reads_of_an_ended_transaction_are_refused(store: Store) -> None:
    with store.transaction() as transaction:
        pass
    with pytest.raises(StoreClosed):
        events.read(transaction, "Stream", "a")


# --- the audit trail


def test_audit_trail_is_newest_first_page_by_page(store: Store) -> None:
    user, other = make_user(store), make_user(store)
    for number in range(10):
        events.append(store, "Stream", str(number % 3), "E", {"n": number}, user_id=user.id)
        events.append(store, "Stream", str(number % 3), "E", {"n": -1}, user_id=other.id)
        events.append(store, "Stream", str(number % 3), "E", {"n": -2})
    seen: list[int] = []
    before: int | None = None
    while page := events.list_by_user(store, user.id, before_position=before, limit=4):
        seen += [event.event_data["n"] for event in page]
        before = page[-1].position
    assert seen == list(range(9, -1, -1))
    assert len(events.list_by_user(store, other.id)) == 10


def test_audit_trail_is_kept_after_the_user_is_deleted(store: Store) -> None:
    user = make_user(store)
    events.append(store, "User", str(user.id), "Registered", {}, user_id=user.id)
    users.delete(store, user.id)
    events.append(store, "User", str(user.id), "Deleted", {}, user_id=user.id)
    assert [event.event_type for event in events.list_by_user(store, user.id)] == ["Deleted", "Registered"]
    assert [event.user_id for event in events.read(store, "User", str(user.id))] == [user.id, user.id]


# --- plans


@pytest.fixture
def populated(connection: psycopg.Connection) -> psycopg.Connection:
    """20,000 events of one aggregate and as many of 200 others, by 100 users."""
    connection.execute(
        """
        INSERT INTO event_log (aggregate_id, aggregate_type, version, event_type, event_data, user_id)
        SELECT 'big', 'Stream', i, 'E', '{}'::jsonb, 1 + i % 100 FROM generate_series(1, 20000) AS i
        UNION ALL
        SELECT 'small' || i % 200, 'Stream', 1 + i / 200, 'E', '{}'::jsonb, 1 + i % 100
        FROM generate_series(0, 19999) AS i
        """
    )
    connection.execute(
        "INSERT INTO aggregates (aggregate_id, aggregate_type, version) "
        "SELECT 'idle' || i, 'Stream', 1 FROM generate_series(1, 5000) AS i "
        "UNION ALL SELECT 'big', 'Stream', 20000"
    )
    connection.execute(
        "INSERT INTO snapshots (aggregate_id, aggregate_type, version, position, schema_version, state) "
        "SELECT 'big', 'Stream', 10 * i, 10 * i, 1 + i % 2, '{}'::jsonb FROM generate_series(1, 2000) AS i"
    )
    connection.execute("VACUUM ANALYZE event_log, aggregates, snapshots")
    return connection


BIG = "'big'"
PLANS: list[tuple[str, dict[str, str], str, int]] = [
    (
        "read_forward",
        {
            "aggregate_id": BIG,
            "aggregate_type": "'Stream'",
            "after_version": "19990",
            "to_version": "20000",
            "limit": "1000",
        },
        "event_log_pkey",
        10,
    ),
    (
        "read_backward",
        {
            "aggregate_id": BIG,
            "aggregate_type": "'Stream'",
            "after_version": "0",
            "to_version": "20000",
            "limit": "10",
        },
        "event_log_pkey",
        10,
    ),
    ("get", {"aggregate_id": BIG, "aggregate_type": "'Stream'", "version": "777"}, "event_log_pkey", 1),
    (
        "list_by_user",
        {"user_id": "7", "before_position": "30000", "limit": "10"},
        "event_log_user_id_idx",
        10,
    ),
    ("find_head", {"aggregate_id": BIG, "aggregate_type": "'Stream'"}, "aggregates_pkey", 1),
    (
        "find_latest_snapshot",
        {"aggregate_id": BIG, "aggregate_type": "'Stream'", "schema_version": "1", "to_version": "20000"},
        "snapshots_pkey",
        1,
    ),
]


@pytest.mark.parametrize("mode", ["force_generic_plan", "force_custom_plan"])
@pytest.mark.parametrize(("name", "params", "index", "count"), PLANS, ids=[plan[0] for plan in PLANS])
def test_plan_reads_no_more_rows_than_it_answers(
    populated: psycopg.Connection, mode: str, name: str, params: dict[str, str], index: str, count: int
) -> None:
    """The tail of 10 events out of 20,000 must cost 10 rows."""
    text = (sql_root() / f"events/{name}.sql").read_text()
    text = re.sub(r"%\((event_types|since)\)s", "NULL", text)
    for number, parameter in enumerate(params, 1):
        text = text.replace(f"%({parameter})s", f"${number}")
    populated.execute(f"SET plan_cache_mode = {mode}".encode())
    populated.execute(f"PREPARE tested AS {text}".encode())
    (plan,) = populated.execute(
        f"EXPLAIN (ANALYZE, FORMAT json) EXECUTE tested ({', '.join(params.values())})".encode()
    ).fetchone()  # type: ignore[misc]  # EXPLAIN answers with a row
    nodes = [node for node in _nodes(plan[0]["Plan"]) if not _is_of_archive(node)]
    scans = [node for node in nodes if "Relation Name" in node]
    assert [scan.get("Index Name") for scan in scans] == [index], plan
    assert scans[0]["Actual Rows"] * scans[0]["Actual Loops"] == count
    assert scans[0].get("Rows Removed by Filter", 0) == 0
    # One merges what is archived in.
    sorts = [node for node in nodes if "Sort" in node["Node Type"]]
    assert all(node["Actual Rows"] == count for node in sorts)


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", []):
        yield from _nodes(child)


def _is_of_archive(node: dict[str, Any]) -> bool:
    """Whether it reads nothing but archived events, of which there are none: plans/ has some."""
    scanned = {below.get("Relation Name") for below in _nodes(node)} - {None}
    return scanned <= {"event_segments"}


def test_every_append_moves_the_head_in_place(store: Store) -> None:
    """Head rows have room on their page, so that moving one writes no index entry (HOT)."""
    count = Query("events/count_moves", "-- Moves so far.\n" + _MOVES, _Moves)
    with store.transaction() as transaction:
        for _ in range(50):
            events.append(transaction, "Stream", "a", "E", {})
        assert transaction.one(count) == _Moves(made=49, in_place=49)


_MOVES = (
    "SELECT n_tup_upd AS made, n_tup_hot_upd AS in_place "
    "FROM pg_stat_xact_user_tables WHERE relname = 'aggregates'"
)


class _Moves(msgspec.Struct):
    made: int
    in_place: int
