"""Loading: what a snapshot and its tail fold to is what all events fold to, in one statement."""

from __future__ import annotations

import functools
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from rootstream_store import events
from rootstream_store.errors import DatabaseError, InvalidInput, NotFound
from rootstream_store.events import Fold, Loaded
from rootstream_store.records import Event
from rootstream_store.store import Store

from .folding import Counted, add, asked, count, expected, versions


def keep_all(state: list[Event], event: Event) -> list[Event]:
    return [*state, event]


# --- what is loaded


def test_an_aggregate_without_events_is_the_initial_state(store: Store) -> None:
    fold = Fold(count, Counted)
    first = events.load(store, "Stream", "a", fold)
    assert first == Loaded(Counted(), 0, 0)
    first.state.sum = 9
    assert events.load(store, "Stream", "a", fold).state == Counted()
    assert versions(store) == []


def test_events_are_those_that_read_gives(store: Store) -> None:
    """To the microsecond, with time zone, and numbers above 64 bits exact."""
    events.append(store, "Stream", "a", "Odd", {"big": 2**63, "huge": 2**200, "x": 0.1, "é": ["\U0001f600"]})
    events.append(
        store, "Stream", "a", "Even", [-(2**64), 1e-300], metadata={"by": 'a "b"'}, user_id=2**63 - 1
    )
    add(store, 300)
    fold: Fold[list[Event]] = Fold(keep_all, list, snapshot_every=None)
    loaded = events.load(store, "Stream", "a", fold)
    with events.stream(store, "Stream", "a") as found:
        everything = list(found)
    assert loaded == Loaded(everything, 302, everything[-1].position)
    assert all(event.timestamp.utcoffset() == timedelta(0) for event in loaded.state)
    assert type(loaded.state[0]) is Event


def test_time_is_right_in_another_time_zone(store: Store, database_url: str) -> None:
    add(store, 1)
    options = f"{conninfo_to_dict(database_url).get('options') or ''} -c TimeZone=Asia/Kathmandu"
    with Store.open(make_conninfo(database_url, options=options)) as other:
        (event,) = events.load(other, "Stream", "a", keep_all, list).state
    assert event == events.get(store, "Stream", "a", 1)


def test_a_function_alone_does(store: Store) -> None:
    add(store, 250)
    initial = Counted()
    assert events.load(store, "Stream", "a", count, initial).state == expected(250)
    assert initial == Counted(), "the caller's own is not changed"
    assert versions(store) == [250]
    add(store, 10)
    assert events.load(store, "Stream", "a", count, Counted).state == expected(260)
    number = events.load(store, "Other", 7, lambda total, _: total + 1, 0)
    assert number == Loaded(0, 0, 0)


def test_a_plain_number_is_a_state_too(store: Store) -> None:
    fold: Fold[int] = Fold(lambda total, event: total + int(event.event_data["n"]), int, snapshot_every=2)
    add(store, 3)
    assert events.load(store, "Stream", "a", fold).state == 6
    with asked(store) as names:
        assert events.load(store, "Stream", "a", fold).state == 6
    assert (names, versions(store)) == (["events/load"], [3])


def test_as_of_a_version(store: Store) -> None:
    fold = Fold(count, Counted, snapshot_every=4, keep_snapshots=9)
    for _ in range(10):
        add(store, 1)
        events.load(store, "Stream", "a", fold)
    assert versions(store) == [4, 8]
    events.prune_snapshots(store, "Stream", "a", keep=9)
    for version in range(11):
        loaded = events.load(store, "Stream", "a", fold, to_version=version)
        assert (loaded.state, loaded.version) == (expected(version), version)
    events.prune_snapshots(store, "Stream", "a", keep=0)
    assert events.load(store, "Stream", "a", fold, to_version=10).state == expected(10)
    assert events.load(store, "Stream", "a", fold, to_version=99).version == 10
    assert versions(store) == [], "looking back leaves nothing"


def test_aggregates_are_told_apart(store: Store) -> None:
    fold = Fold(count, Counted, snapshot_every=2)
    add(store, 3)
    add(store, 5, aggregate_id="b")
    events.append(store, "Other", "a", "Added", {"n": 100})
    for _ in range(2):
        assert events.load(store, "Stream", "a", fold).state == expected(3)
        assert events.load(store, "Stream", "b", fold).state == expected(5)
    assert events.load(store, "Other", "a", fold).state.sum == 100


@pytest.mark.parametrize("number", [255, 256, 257, 512, 1000])
def test_any_number_of_events_is_read_in_pages(store: Store, number: int) -> None:
    add(store, number)
    fold = Fold(count, Counted, snapshot_every=None)
    with asked(store) as names:
        loaded = events.load(store, "Stream", "a", fold)
    assert (loaded.state, loaded.version) == (expected(number), number)
    assert names == ["events/load"] * (number // 256 + 1)


def test_a_page_of_large_events(store: Store, connection: psycopg.Connection) -> None:
    """More than jsonb can hold."""
    connection.execute(
        "INSERT INTO aggregates (aggregate_type, aggregate_id, version) VALUES ('S', 'a', 257)"
    )
    connection.execute(
        "INSERT INTO event_log (aggregate_type, aggregate_id, version, event_type, event_data) "
        "SELECT 'S', 'a', n, 'E', jsonb_build_object('text', repeat('x', 1060000)) "
        "FROM generate_series(1, 257) AS n"
    )
    fold: Fold[int] = Fold(lambda total, event: total + len(event.event_data["text"]), int)
    assert events.load(store, "S", "a", fold).state == 257 * 1_060_000


# --- mistakes


def test_a_missing_event_is_told(store: Store, connection: psycopg.Connection) -> None:
    """Which only a hand in the database can bring about."""
    connection.execute(
        "INSERT INTO event_log (aggregate_type, aggregate_id, version, event_type, event_data) "
        """SELECT 'Stream', id, n, 'Added', '{"n": 1}' FROM unnest(ARRAY['a', 'b']) AS id """
        "CROSS JOIN generate_series(1, 600) AS n WHERE (id, n) NOT IN (('a', 300), ('b', 1))"
    )
    for aggregate_id, version in (("a", 300), ("b", 1)):
        with pytest.raises(NotFound) as caught:
            events.load(store, "Stream", aggregate_id, Fold(count, Counted))
        assert caught.value.key == {
            "aggregate_type": "Stream",
            "aggregate_id": aggregate_id,
            "version": version,
        }
    assert events.load(store, "Stream", "a", Fold(count, Counted), to_version=299).version == 299


def test_two_folds_of_one_type_need_schema_versions_of_their_own(store: Store) -> None:
    """Each would take the other's state for its own."""
    add(store, 1)
    events.load(store, "Stream", "a", Fold(count, Counted))
    other: Fold[int] = Fold(one_more, int)
    for _ in range(2):
        with pytest.raises(InvalidInput, match="another fold of Stream") as caught:
            events.load(store, "Stream", "a", other)
        assert (caught.value.field, caught.value.value) == ("schema_version", 1)
    with pytest.raises(InvalidInput, match="another fold of Stream"):
        events.load(store, "Stream", "a", lambda total, _: total + 1, 0)
    assert events.load(store, "Other", "a", other).state == 0
    assert events.load(store, "Stream", "a", Fold(one_more, int, schema_version=2)).state == 1
    # The same function is the same fold.
    events.load(store, "Stream", "a", Fold(count, Counted, snapshot_every=5))
    events.load(store, "Stream", "a", count, Counted)
    events.load(store, "Stream", "a", functools.partial(count), Counted)


def test_a_fold_without_a_schema_version_has_nothing_to_do_with_snapshots(store: Store) -> None:
    add(store, 3)
    events.load(store, "Stream", "a", Fold(count, Counted, snapshot_every=2))
    for _ in range(2):
        loaded = events.load(store, "Stream", "a", Fold(one_more, int, schema_version=None, snapshot_every=1))
        assert loaded.state == 3
    assert versions(store) == [3]


def one_more(state: int, _: Event) -> int:
    return state + 1


@pytest.mark.parametrize(
    ("data", "timestamp"),
    [("{}", "-infinity"), ('{"n": ' + "[" * 3000 + "]" * 3000 + "}", "2026-01-01 00:00:00Z")],
    ids=["time", "depth"],
)
def test_an_event_that_python_cannot_read_is_told(
    store: Store, connection: psycopg.Connection, data: str, timestamp: str
) -> None:
    connection.execute(
        "INSERT INTO event_log (aggregate_type, aggregate_id, version, event_type, event_data, timestamp) "
        "VALUES ('Stream', 'a', 1, 'E', %s, %s)",
        [data, timestamp],
    )
    with pytest.raises(DatabaseError, match="an event of Stream 'a' cannot be read by Python"):
        events.load(store, "Stream", "a", keep_all, list)


def test_an_error_of_the_fold_names_the_event(store: Store) -> None:
    add(store, 3)

    def fail(state: int, event: Event) -> int:
        if event.version == 2:
            raise KeyError("viewers")
        return state

    with pytest.raises(KeyError) as caught:
        events.load(store, "Stream", "a", fail, 0)
    assert caught.value.__notes__ == ["folding Added, version 2 of Stream 'a'"]


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"schema_version": 0}, "schema_version"),
        ({"schema_version": True}, "schema_version"),
        ({"snapshot_every": 0}, "snapshot_every"),
        ({"snapshot_every": 1.5}, "snapshot_every"),
        ({"keep_snapshots": 0}, "keep_snapshots"),
        ({"types": dict}, "types"),
        ({"apply": None}, "apply"),
        ({"initial": {}}, "initial"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Fold(**{"apply": count, "initial": Counted, **settings})
    assert caught.value.field == field


@pytest.mark.parametrize(
    "over", [{"aggregate_type": None}, {"aggregate_type": []}, {"aggregate_id": 1.5}, {"to_version": "1"}]
)
def test_bad_arguments_are_refused_by_name(store: Store, over: dict[str, Any]) -> None:
    fold = Fold(count, Counted)
    with pytest.raises(InvalidInput) as caught:
        events.load(store, **{"aggregate_type": "Stream", "aggregate_id": "a", "fold": fold, **over})
    assert caught.value.field == next(iter(over))


def test_the_initial_state_is_given_once(store: Store) -> None:
    with pytest.raises(InvalidInput, match="initial"):
        events.load(store, "Stream", "a", Fold(count, Counted), {})  # type: ignore[call-overload]  # on purpose
