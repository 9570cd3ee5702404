"""Snapshots: of versions that exist, never overwritten, told apart by the shape of their state."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest

from rootstream_store import events
from rootstream_store.errors import Conflict, InvalidInput, NotFound
from rootstream_store.events import NewEvent
from rootstream_store.store import Store


@pytest.fixture
def ten(store: Store) -> Store:
    """A store where Stream "a" has ten events."""
    events.append_many(store, "Stream", "a", [NewEvent("Added", {"n": n}) for n in range(1, 11)])
    return store


def save(db: Any, version: int, state: Any, **over: Any) -> Any:
    return events.save_snapshot(db, "Stream", "a", version=version, state=state, **over)


def test_save_and_load(ten: Store) -> None:
    saved = save(ten, 4, {"sum": 10})
    assert (saved.aggregate_type, saved.aggregate_id) == ("Stream", "a")
    assert (saved.version, saved.schema_version, saved.state) == (4, 1, {"sum": 10})
    assert saved.position == events.get(ten, "Stream", "a", 4).position
    assert events.load_snapshot(ten, "Stream", "a") == saved


def test_state_from_a_snapshot_and_its_tail_equals_a_full_replay(ten: Store) -> None:
    """The former C++ layer read from a snapshot's version inclusively: the last event was applied twice."""
    replayed = sum(event.event_data["n"] for event in events.read(ten, "Stream", "a"))
    for version in range(1, 11):
        save(ten, version, {"sum": sum(range(version + 1))})
        snapshot = events.load_snapshot(ten, "Stream", "a")
        assert snapshot is not None
        tail = events.read(ten, "Stream", "a", after_version=snapshot.version)
        assert snapshot.state["sum"] + sum(event.event_data["n"] for event in tail) == replayed == 55


def test_load_gives_the_newest(ten: Store) -> None:
    for version in (3, 9, 6):
        save(ten, version, {"v": version})
    for to_version, wanted in ((None, 9), (10, 9), (9, 9), (8, 6), (3, 3)):
        found = events.load_snapshot(ten, "Stream", "a", to_version=to_version)
        assert found is not None
        assert found.version == wanted
    assert events.load_snapshot(ten, "Stream", "a", to_version=2) is None
    assert events.load_snapshot(ten, "Stream", "b") is None
    assert events.load_snapshot(ten, "Other", "a") is None


@pytest.mark.parametrize("version", [11, 999, 0, -1])
def test_snapshot_of_a_version_that_is_not_there_is_not_found(ten: Store, version: int) -> None:
    with pytest.raises(NotFound) as caught:
        save(ten, version, {})
    assert caught.value.key == {"aggregate_type": "Stream", "aggregate_id": "a", "version": version}
    assert events.load_snapshot(ten, "Stream", "a") is None


def test_snapshot_of_an_aggregate_without_events_is_not_found(store: Store) -> None:
    with pytest.raises(NotFound):
        events.save_snapshot(store, "Stream", "x", version=999, state={})


def test_a_second_snapshot_of_a_version_never_overwrites(ten: Store) -> None:
    first = save(ten, 4, {"sum": 10, "x": 1e16})
    assert save(ten, 4, {"x": 1e16, "sum": 10}) == first  # the same state
    with pytest.raises(Conflict, match="never overwritten") as caught:
        save(ten, 4, {"sum": 11})
    assert not caught.value.retryable
    assert events.load_snapshot(ten, "Stream", "a") == first


def test_shapes_are_told_apart(ten: Store) -> None:
    """A changed fold reads only its own, also where an older one has a newer version."""
    old, new = save(ten, 8, {"total": 36}), save(ten, 4, {"sum": 10}, schema_version=2)
    assert events.load_snapshot(ten, "Stream", "a") == old
    assert events.load_snapshot(ten, "Stream", "a", schema_version=2) == new
    assert events.load_snapshot(ten, "Stream", "a", schema_version=3) is None
    # Both shapes of one version, while old and new program run side by side.
    same = save(ten, 8, {"sum": 36}, schema_version=2)
    assert events.load_snapshot(ten, "Stream", "a", schema_version=2) == same
    assert events.load_snapshot(ten, "Stream", "a") == old


def test_of_many_who_save_one_version_all_agree(ten: Store) -> None:
    def attempt(number: int) -> Any:
        try:
            return save(ten, 5, {"by": number % 2}).state["by"]
        except Conflict:
            return None

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(attempt, range(8)))
    kept = events.load_snapshot(ten, "Stream", "a")
    assert kept is not None
    assert answers == [kept.state["by"] if number % 2 == kept.state["by"] else None for number in range(8)]


class State(msgspec.Struct):
    sum: int


def test_state_may_be_a_struct_or_raw_json(ten: Store) -> None:
    assert save(ten, 1, State(1)).state == {"sum": 1}
    assert save(ten, 2, b'{"sum": 3}').state == {"sum": 3}


@pytest.mark.parametrize(
    ("over", "field"),
    [
        ({"state": {"x": float("nan")}}, "state"),
        ({"state": {"x": "\0"}}, "state"),
        ({"state": None}, "state"),
        ({"state": b"{"}, "state"),
        ({"schema_version": 0}, "schema_version"),
        ({"schema_version": "1"}, "schema_version"),
        ({"version": "1"}, "version"),
        ({"version": None}, "version"),
    ],
)
def test_bad_values_are_refused_by_name(ten: Store, over: dict[str, Any], field: str) -> None:
    with pytest.raises((InvalidInput, NotFound)) as caught:
        events.save_snapshot(ten, "Stream", "a", **{"version": 4, "state": {}, **over})
    if over != {"version": None}:
        assert isinstance(caught.value, InvalidInput)
        assert caught.value.field == field
    assert events.load_snapshot(ten, "Stream", "a") is None


def test_rollback_takes_a_snapshot_back(ten: Store) -> None:
    with contextlib.suppress(KeyError), ten.transaction() as transaction:
        save(transaction, 4, {"sum": 10})
        assert events.load_snapshot(transaction, "Stream", "a") is not None
        raise KeyError
    assert events.load_snapshot(ten, "Stream", "a") is None
    with ten.transaction() as transaction:  # a conflict is no error on the server
        save(transaction, 4, {"sum": 10})
        with pytest.raises(Conflict):
            save(transaction, 4, {"sum": 11})
        with pytest.raises(NotFound):
            save(transaction, 40, {"sum": 11})
        save(transaction, 5, {"sum": 15})
    kept = events.load_snapshot(ten, "Stream", "a")
    assert kept is not None
    assert kept.version == 5
