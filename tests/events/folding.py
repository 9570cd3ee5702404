"""Events that add up, and folds of them, for the tests of loading."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from rootstream_store import events
from rootstream_store.db import Db
from rootstream_store.events import NewEvent
from rootstream_store.records import Event
from rootstream_store.store import Store

__all__ = ["Counted", "add", "asked", "count", "expected", "versions"]


class Counted(msgspec.Struct):
    sum: int = 0
    seen: list[int] = []


def count(state: Counted, event: Event) -> Counted:
    state.sum += event.event_data["n"]
    state.seen.append(event.version)
    return state


def add(db: Db, number: int, *, aggregate_id: str = "a") -> int:
    """Appends so many events in one call; the n-th of an aggregate adds n."""
    first = events.get_version(db, "Stream", aggregate_id) + 1
    new = [NewEvent("Added", {"n": n}) for n in range(first, first + number)]
    return events.append_many(db, "Stream", aggregate_id, new)[-1].version


def expected(version: int) -> Counted:
    return Counted(version * (version + 1) // 2, list(range(1, version + 1)))


def versions(db: Any, *, schema_version: int = 1, aggregate_id: str = "a") -> list[int]:
    """Of the snapshots that there are, oldest first."""
    found: list[int] = []
    to_version: int | None = None
    while (
        snapshot := events.load_snapshot(
            db, "Stream", aggregate_id, schema_version=schema_version, to_version=to_version
        )
    ) is not None:
        found.insert(0, snapshot.version)
        to_version = snapshot.version - 1
    return found


@contextlib.contextmanager
def asked(store: Store) -> Iterator[list[str]]:
    """The names of the queries that were run."""
    names: list[str] = []

    def observe(name: str, work: Callable[[], Any]) -> Any:
        names.append(name)
        return work()

    store.observe(observe)
    yield names
    store.observe(None)
