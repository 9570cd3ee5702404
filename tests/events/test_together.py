"""Appending to several aggregates at once: all or none, whoever else appends."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from rootstream_store import events
from rootstream_store.errors import Conflict, InvalidInput, VersionConflict
from rootstream_store.events import ANY, EXISTS, NO_STREAM, AggregateEvents, NewEvent
from rootstream_store.store import Store

from ..waiting import until


def two(prefix: str = "E") -> list[NewEvent]:
    return [NewEvent(f"{prefix}1", {"n": 1}, metadata={"m": prefix}), NewEvent(f"{prefix}2", [2], user_id=3)]


def heads(connection: psycopg.Connection) -> dict[str, int]:
    return dict(connection.execute("SELECT aggregate_id, version FROM aggregates ORDER BY 1").fetchall())


def test_events_go_where_they_belong_and_in_order(store: Store, connection: psycopg.Connection) -> None:
    events.append(store, "Stream", "b", "E", {})
    appended = events.append_together(
        store,
        [
            AggregateEvents("Stream", "b", two("B"), expected=1),
            AggregateEvents("Stream", 7, two("S"), expected=NO_STREAM),
            AggregateEvents("User", "b", [NewEvent("U", {"u": 1})]),
        ],
    )
    assert [[one.version for one in part] for part in appended] == [[2, 3], [1, 2], [1]]
    assert [one.position for part in appended for one in part] == [2, 3, 4, 5, 6]
    found = events.read_all(store, after_position=1)
    assert [(e.aggregate_type, e.aggregate_id, e.version, e.event_type) for e in found] == [
        ("Stream", "b", 2, "B1"),
        ("Stream", "b", 3, "B2"),
        ("Stream", "7", 1, "S1"),
        ("Stream", "7", 2, "S2"),
        ("User", "b", 1, "U"),
    ]
    assert [(e.event_data, e.metadata, e.user_id) for e in found[2:4]] == [
        ({"n": 1}, {"m": "S"}, None),
        ([2], None, 3),
    ]
    assert [e.event_id for e in found] == [one.event_id for part in appended for one in part]


EXPECTATIONS: list[tuple[Any, bool, bool]] = [
    # what is expected, whether that fits a new aggregate, and one at version 2
    (ANY, True, True),
    (NO_STREAM, True, False),
    (0, True, False),
    (EXISTS, False, True),
    (1, False, False),
    (2, False, True),
]


@pytest.mark.parametrize("other_first", [False, True])
@pytest.mark.parametrize(("expected", "fits_new", "fits_two"), EXPECTATIONS)
@pytest.mark.parametrize("name", ["new", "two"])
def test_one_that_is_refused_refuses_all(
    store: Store,
    connection: psycopg.Connection,
    name: str,
    expected: Any,
    fits_new: bool,
    fits_two: bool,
    other_first: bool,
) -> None:
    events.append_many(store, "Stream", "two", two())
    events.append(store, "Stream", "other", "E", {})
    appends = [
        AggregateEvents("Stream", name, two(), expected=expected),
        AggregateEvents("Stream", "other", two(), expected=1),
        AggregateEvents("Stream", "fresh", two()),
    ]
    if other_first:
        appends.reverse()
    before = heads(connection)
    if fits_new if name == "new" else fits_two:
        events.append_together(store, appends)
        assert heads(connection) == before | {"fresh": 2, "other": 3, name: before.get(name, 0) + 2}
        return
    with pytest.raises(VersionConflict) as caught:
        events.append_together(store, appends)
    assert (caught.value.aggregate_id, caught.value.expected) == (name, expected)
    assert caught.value.actual == before.get(name, 0)
    assert heads(connection) == before
    assert events.read_all(store, after_position=3) == []


def test_a_conflict_is_no_error_on_the_server(store: Store) -> None:
    with store.transaction() as tx:
        events.append(tx, "Stream", "a", "E", {})
        with pytest.raises(VersionConflict):
            events.append_together(tx, [AggregateEvents("Stream", "a", two(), expected=7)])
        events.append_together(tx, [AggregateEvents("Stream", "a", two(), expected=1)])
    assert events.get_version(store, "Stream", "a") == 3


def test_a_closed_aggregate_refuses_all(store: Store, connection: psycopg.Connection) -> None:
    events.append(store, "Stream", "a", "E", {})
    connection.execute("UPDATE aggregates SET is_closed = TRUE")
    with pytest.raises(Conflict, match="closed"):
        events.append_together(
            store, [AggregateEvents("Stream", "b", two()), AggregateEvents("Stream", "a", two())]
        )
    assert heads(connection) == {"a": 1}


def test_nothing_is_nothing(store: Store) -> None:
    assert events.append_together(store, []) == []


@pytest.mark.parametrize(
    ("appends", "field"),
    [
        ("text", "appends"),
        (5, "appends"),
        ([5], "appends[0]"),
        ([AggregateEvents("S", "a", [])], "appends[0].events"),
        ([AggregateEvents("S", "a", [NewEvent("E", {})], expected=-1)], "expected"),
        ([AggregateEvents("S", 7, two()), AggregateEvents("S", "7", two())], "appends[1]"),
        ([AggregateEvents("S", "a", two()), AggregateEvents("S", "b", [5])], "appends[1].events[0]"),  # type: ignore[list-item]  # what the test is about
        ([AggregateEvents("S", "a", [*two(), NewEvent("E", "x")])], "appends[0].events[2].data"),
        ([AggregateEvents("S", "a", two()), AggregateEvents("S", "b", [NewEvent("", {})])],
         "appends[1].events[0].event_type"),
        ([AggregateEvents("S", "a", [NewEvent("E", {}, user_id=2**63)])], "appends[0].events[0].user_id"),
        ([AggregateEvents("S", name, [NewEvent("E", {})] * 6000) for name in "ab"], "appends"),
    ],
)  # fmt: skip
def test_input_that_is_refused(
    store: Store, connection: psycopg.Connection, appends: Any, field: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        events.append_together(store, appends)
    assert caught.value.field == field
    assert heads(connection) == {}


def test_many_writers_in_any_order(store: Store, connection: psycopg.Connection) -> None:
    """Neither a deadlock nor half of an append, although they name the aggregates in every order."""
    names = [str(number) for number in range(5)]

    def write(seed: int) -> int:
        chance = random.Random(seed)
        done = 0
        for _ in range(25):
            chosen = chance.sample(names, 3)
            events.append_together(
                store, [AggregateEvents("Stream", name, [NewEvent("E", {"by": seed})]) for name in chosen]
            )
            done += 3
        return done

    with ThreadPoolExecutor(8) as pool:
        total = sum(pool.map(write, range(8)))
    assert sum(heads(connection).values()) == total
    assert connection.execute(
        "SELECT count(*), count(DISTINCT (aggregate_id, version)) FROM event_log"
    ).fetchone() == (total, total)
    deadlocks = connection.execute(
        "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    ).fetchone()
    assert deadlocks == (0,)


def test_an_aggregate_that_somebody_else_makes_at_this_moment(
    store: Store, connection: psycopg.Connection
) -> None:
    with ThreadPoolExecutor(1) as pool:
        with store.transaction() as tx:
            events.append(tx, "Stream", "new", "E", {})
            both = [AggregateEvents("Stream", "old", two()), AggregateEvents("Stream", "new", two())]
            waiting = pool.submit(events.append_together, store, both)
            until(
                lambda: connection.execute(
                    "SELECT 1 FROM pg_stat_activity "
                    "WHERE wait_event_type = 'Lock' AND datname = current_database()"
                ).fetchone(),
                "it waits for the new head row",
            )
        assert [[one.version for one in part] for part in waiting.result(20)] == [[1, 2], [2, 3]]
    assert heads(connection) == {"new": 3, "old": 2}
