"""Loading: what a snapshot and its tail fold to is what all events fold to, in one statement."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import msgspec
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from rootstream_store import events
from rootstream_store.errors import DatabaseError, InvalidInput, NotFound
from rootstream_store.events import Fold, Loaded, NewEvent, _load
from rootstream_store.records import Event
from rootstream_store.store import Store

from ..together import together


class Counted(msgspec.Struct):
    sum: int = 0
    seen: list[int] = []


def count(state: Counted, event: Event) -> Counted:
    state.sum += event.event_data["n"]
    state.seen.append(event.version)
    return state


def keep_all(state: list[Event], event: Event) -> list[Event]:
    return [*state, event]


def add(db: Any, number: int, *, aggregate_id: str = "a") -> int:
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


@pytest.fixture(autouse=True)
def forget_warnings() -> Iterator[None]:
    _load._warned.clear()
    yield
    _load._warned.clear()


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


# --- snapshots on the way


def test_a_snapshot_and_its_tail_are_one_statement(store: Store) -> None:
    fold = Fold(count, Counted)
    add(store, 1050)
    events.load(store, "Stream", "a", fold)
    add(store, 30)
    with asked(store) as names:
        assert events.load(store, "Stream", "a", fold).state == expected(1080)
    assert names == ["events/load"]
    assert versions(store) == [1050]


def test_a_snapshot_is_saved_when_a_multiple_is_passed(store: Store) -> None:
    """Also where a batch jumps over it."""
    fold = Fold(count, Counted, snapshot_every=10, keep_snapshots=99)
    for batch, wanted in ((9, []), (1, [10]), (5, [10]), (7, [10, 22]), (7, [10, 22]), (31, [10, 22, 60])):
        version = add(store, batch)
        assert events.load(store, "Stream", "a", fold).state == expected(version)
        assert versions(store) == wanted
    saved = events.load_snapshot(store, "Stream", "a")
    assert saved is not None
    assert saved.position == events.get(store, "Stream", "a", 60).position


def test_old_snapshots_go_and_those_of_other_shapes_stay(store: Store) -> None:
    new = Fold(count, Counted, snapshot_every=1, keep_snapshots=2, schema_version=2)
    old = Fold(count, Counted, snapshot_every=2, keep_snapshots=3, schema_version=1)
    for version in range(1, 13):
        add(store, 1)
        for fold in (old, new):
            assert events.load(store, "Stream", "a", fold).state == expected(version)
        assert versions(store, schema_version=2) == [max(1, version - 1), version][-version:]
    assert versions(store) == [8, 10, 12]
    one = Fold(count, Counted, snapshot_every=1, keep_snapshots=1, schema_version=2)
    add(store, 1)
    events.load(store, "Stream", "a", one)
    assert (versions(store), versions(store, schema_version=2)) == ([8, 10, 12], [13])


def test_prune(store: Store) -> None:
    add(store, 6)
    for schema_version in (1, 2):
        for version in range(1, 7):
            events.save_snapshot(
                store, "Stream", "a", version=version, state={}, schema_version=schema_version
            )
    assert events.prune_snapshots(store, "Stream", "b") == 0
    assert events.prune_snapshots(store, "Stream", "a", keep=4) == 4
    assert versions(store) == versions(store, schema_version=2) == [3, 4, 5, 6]
    assert events.prune_snapshots(store, "Stream", "a", schema_version=1) == 2
    assert (versions(store), versions(store, schema_version=2)) == ([5, 6], [3, 4, 5, 6])
    assert events.prune_snapshots(store, "Stream", "a", keep=0, schema_version=1) == 2
    assert (versions(store), versions(store, schema_version=2)) == ([], [3, 4, 5, 6])
    for keep in (-1, True, "1"):
        with pytest.raises(InvalidInput, match="keep"):
            events.prune_snapshots(store, "Stream", "a", keep=keep)  # type: ignore[arg-type]  # on purpose


def test_a_changed_fold_reads_no_older_shape(store: Store) -> None:
    add(store, 20)
    events.save_snapshot(store, "Stream", "a", version=20, state={"sum": -1, "seen": []})
    new = Fold(count, Counted, schema_version=2, snapshot_every=None)
    assert events.load(store, "Stream", "a", new).state == expected(20)
    assert events.load(store, "Stream", "a", Fold(count, Counted)).state.sum == -1, "the snapshot was read"


def test_a_snapshot_of_another_shape_is_passed_over(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever forgot to raise the schema version has a slow aggregate, not a broken one."""
    add(store, 20)
    events.save_snapshot(store, "Stream", "a", version=15, state={"sum": "many"})
    fold = Fold(count, Counted, snapshot_every=10)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert events.load(store, "Stream", "a", fold).state == expected(20)
    assert [record.getMessage() for record in caplog.records] == [
        "Stream: snapshots of schema version 1 are of another shape: Expected `int`, got `str` - at `$.sum`"
    ]
    assert versions(store) == [15, 20]
    add(store, 1)
    with asked(store) as names:
        assert events.load(store, "Stream", "a", fold).state == expected(21)
    assert names == ["events/load"], "the new one is read"


def test_loaders_at_once_all_succeed(store: Store) -> None:
    fold = Fold(count, Counted, snapshot_every=3, keep_snapshots=1)
    for round_ in range(1, 16):
        add(store, 3)
        loaded = together([lambda: events.load(store, "Stream", "a", fold)] * 6)
        assert [found.state for found in loaded if isinstance(found, Loaded)] == [expected(round_ * 3)] * 6
        assert versions(store)[-1] == round_ * 3
    assert len(versions(store)) == 1


def test_what_is_loaded_while_others_append_is_of_one_moment(store: Store) -> None:
    fold = Fold(count, Counted, snapshot_every=5, keep_snapshots=1)
    loads: list[Loaded[Counted]] = []

    def write() -> None:
        for _ in range(40):
            events.append_many(store, "Stream", "a", [NewEvent("Added", {"n": 1})] * 3)

    def read() -> None:
        while not loads or loads[-1].version < 360:
            loads.append(events.load(store, "Stream", "a", fold))

    assert together([write] * 3 + [read] * 3) == [None] * 6
    assert len({loaded.version for loaded in loads}) > 10
    for loaded in loads:
        assert loaded.state == Counted(loaded.version, list(range(1, loaded.version + 1)))


def test_a_load_waits_for_no_other_transaction(store: Store) -> None:
    """Two that load the same aggregates in another order would else be a deadlock."""
    fold = Fold(count, Counted, snapshot_every=3, keep_snapshots=1)
    events.save_snapshot(store, "Stream", "a", version=add(store, 1), state=expected(1))
    add(store, 4)
    with store.transaction() as transaction:
        assert events.load(transaction, "Stream", "a", fold).state == expected(5)
        assert versions(transaction) == [5]
        with store.transaction() as second:
            second.run(_statement("SET LOCAL lock_timeout = '2s'"))
            assert events.load(second, "Stream", "a", fold).state == expected(5)
            assert versions(second) == [1]
    assert versions(store) == [5]


def _statement(text: str) -> Any:
    from rootstream_store.queries import Query

    return Query("test", f"-- A test's.\n{text}", None)


def test_rollback_takes_events_and_snapshot_back(store: Store) -> None:
    fold = Fold(count, Counted, snapshot_every=3)
    add(store, 2)
    with contextlib.suppress(KeyError), store.transaction() as transaction:
        add(transaction, 5)
        assert events.load(transaction, "Stream", "a", fold).state == expected(7)
        assert versions(transaction) == [7]
        raise KeyError
    assert versions(store) == []
    assert events.load(store, "Stream", "a", fold).state == expected(2)


# --- what cannot be saved


def reading(database_url: str, option: str) -> Store:
    options = f"{conninfo_to_dict(database_url).get('options') or ''} -c {option}"
    return Store.open(make_conninfo(database_url, options=options))


def test_a_read_only_server_is_not_written_to(
    store: Store, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    add(store, 20)
    fold = Fold(count, Counted, snapshot_every=10)
    with (
        reading(database_url, "default_transaction_read_only=on") as reader,
        caplog.at_level(logging.WARNING),
        asked(reader) as names,
    ):
        assert events.load(reader, "Stream", "a", fold).state == expected(20)
        with reader.transaction() as transaction:
            assert events.load(transaction, "Stream", "a", fold).state == expected(20)
        assert set(names) == {"events/load"}
    assert not caplog.records
    assert versions(store) == []


def test_a_role_that_may_not_write_loads(
    store: Store, database_url: str, connection: psycopg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    role = f"rootstream_test_reads_{connection.info.backend_pid}"
    connection.execute(f"CREATE ROLE {role}".encode())
    connection.execute(f"GRANT SELECT ON event_log, snapshots, aggregates TO {role}".encode())
    try:
        add(store, 20)
        with reading(database_url, f"role={role}") as reader, caplog.at_level(logging.WARNING):
            fold = Fold(count, Counted, snapshot_every=10)
            for _ in range(2):
                assert events.load(reader, "Stream", "a", fold).state == expected(20)
            with reader.transaction() as transaction:
                assert events.load(transaction, "Stream", "a", fold).state == expected(20)
                assert events.get_version(transaction, "Stream", "a") == 20, "the transaction goes on"
            (record,) = caplog.records
            assert record.getMessage().startswith("Stream: no snapshot was saved: PermissionDenied: ")
            never = Fold(count, Counted, snapshot_every=None)
            with asked(reader) as names:
                assert events.load(reader, "Stream", "a", never).state == expected(20)
            assert names == ["events/load"]
        assert versions(store) == []
    finally:
        connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}".encode())


def test_a_state_above_the_limit_is_loaded_and_not_saved(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    add(store, 4)
    fold: Fold[list[str]] = Fold(lambda texts, _: [*texts, "x" * 300_000], list, snapshot_every=2)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert len(events.load(store, "Stream", "a", fold).state) == 4
    assert [record.getMessage() for record in caplog.records] == [
        "Stream: the state is too large for a snapshot: every load reads all events"
    ]
    assert versions(store) == []


@pytest.mark.parametrize(
    ("apply", "initial", "rule"),
    [
        (lambda state, event: {**state, event.version: 1}, dict, "does not come back from JSON as it was"),
        (lambda state, event: {"at": event.timestamp}, dict, "does not come back from JSON as it was"),
        (lambda state, _: [*(state or ()), 1], lambda: None, "does not come back from JSON"),
        (lambda state, _: {"x": float("nan")}, dict, "must not contain NaN"),
        (lambda state, _: {"x": object()}, dict, "cannot be written as JSON"),
    ],
)
def test_a_state_that_json_cannot_hold_is_told_at_the_first_load(
    store: Store, apply: Any, initial: Any, rule: str
) -> None:
    """And not by the hundredth event, in production; nor, worse, by keys that have become text."""
    add(store, 1)
    with pytest.raises(InvalidInput, match=rule) as caught:
        events.load(store, "Stream", "a", Fold(apply, initial))
    assert caught.value.field == "state"
    events.load(store, "Stream", "a", Fold(apply, initial, snapshot_every=None))
    add(store, 99)
    with pytest.raises(InvalidInput, match=rule):
        events.load(store, "Stream", "a", apply, initial)


def test_the_type_of_the_state_may_be_given(store: Store) -> None:
    def note(state: dict[int, datetime], event: Event) -> dict[int, datetime]:
        return {**state, event.version: event.timestamp}

    add(store, 1)
    with pytest.raises(InvalidInput, match="does not come back"):
        events.load(store, "Stream", "a", Fold(note, dict, state_type=dict[int, Any]))
    fold = Fold(note, dict, snapshot_every=2, state_type=dict[int, datetime])
    add(store, 4)
    first = events.load(store, "Stream", "a", fold)
    assert versions(store) == [5]
    assert events.load(store, "Stream", "a", fold) == first


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
