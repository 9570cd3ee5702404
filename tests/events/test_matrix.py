"""Every way of appending, with every expectation, to new and existing aggregates, by many writers at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import pytest

from rootstream_store import events
from rootstream_store.errors import VersionConflict
from rootstream_store.events import ANY, EXISTS, NO_STREAM, AggregateEvents, Appender, NewEvent
from rootstream_store.store import Store

WRITERS: Final = 8

Way = Callable[[Store, Appender, Any], int]
"""Appends to aggregate a with this expectation; returns how many events."""


def one(store: Store, _: Appender, expected: Any) -> int:
    events.append(store, "Stream", "a", "E", {}, expected=expected)
    return 1


def many(store: Store, _: Appender, expected: Any) -> int:
    return len(events.append_many(store, "Stream", "a", [NewEvent("E", {})] * 3, expected=expected))


def together(store: Store, _: Appender, expected: Any) -> int:
    both = [AggregateEvents("Stream", name, [NewEvent("E", {})] * 2, expected) for name in ("a", "b")]
    events.append_together(store, both)
    return 2


def grouped(_: Store, appender: Appender, expected: Any) -> int:
    appender.append("Stream", "a", "E", {}, expected=expected)
    return 1


def in_a_transaction(store: Store, _: Appender, expected: Any) -> int:
    with store.transaction() as tx:
        events.append(tx, "Stream", "a", "E", {}, expected=expected)
        events.append(tx, "Stream", "a", "E", {}, expected=EXISTS)
    return 2


# Of eight at once: how many are accepted by an aggregate that is new, and by one that is at version 3.
CASES: Final[list[tuple[Any, int, int]]] = [
    (ANY, WRITERS, WRITERS),
    (NO_STREAM, 1, 0),
    (0, 1, 0),
    (EXISTS, 0, WRITERS),
    (3, 0, 1),
]


@pytest.mark.parametrize("way", [one, many, together, grouped, in_a_transaction])
@pytest.mark.parametrize("version", [0, 3])
@pytest.mark.parametrize(("expected", "if_new", "if_there"), CASES)
def test_writers_at_once(
    store: Store, way: Way, version: int, expected: Any, if_new: int, if_there: int
) -> None:
    names = ("a", "b") if way is together else ("a",)
    for name in names:
        for _ in range(version):
            events.append(store, "Stream", name, "E", {})
    appender = Appender(store)
    barrier = threading.Barrier(WRITERS)
    conflicts: list[VersionConflict] = []

    def write(_: int) -> int:
        barrier.wait(20)
        try:
            return way(store, appender, expected)
        except VersionConflict as conflict:
            conflicts.append(conflict)
            return 0

    with ThreadPoolExecutor(WRITERS) as pool:
        written = list(pool.map(write, range(WRITERS)))
    accepted = sum(1 for count in written if count)
    assert accepted == (if_there if version else if_new)
    assert accepted + len(conflicts) == WRITERS
    for conflict in conflicts:
        assert (conflict.aggregate_id, conflict.expected) == ("a", expected)
        assert conflict.actual in (version, version + max(written))
    for name in names:
        found = events.read(store, "Stream", name)
        assert [event.version for event in found] == list(range(1, version + sum(written) + 1))
        assert [event.position for event in found] == sorted(event.position for event in found)
        assert [event.timestamp for event in found] == sorted(event.timestamp for event in found)
        assert events.get_version(store, "Stream", name) == len(found)


@pytest.mark.parametrize("way", [one, many, together, grouped, in_a_transaction])
def test_a_version_ahead_is_refused_until_it_is_reached(store: Store, way: Way) -> None:
    appender = Appender(store)
    names = ("a", "b") if way is together else ("a",)
    for name in names:
        events.append(store, "Stream", name, "E", {})
    with pytest.raises(VersionConflict) as caught:
        way(store, appender, 2)
    assert caught.value.actual == 1
    for name in names:
        events.append(store, "Stream", name, "E", {})
    assert way(store, appender, 2) > 0
