"""Snapshots that loads save on their way: when, how many, and that no load fails or waits for one."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from rootstream_store import events
from rootstream_store.errors import InvalidInput
from rootstream_store.events import Fold, Loaded, NewEvent, _load
from rootstream_store.records import Event
from rootstream_store.store import Store

from ..together import together
from .folding import Counted, add, asked, count, expected, versions


@pytest.fixture(autouse=True)
def forget_warnings() -> Iterator[None]:
    _load._warned.clear()
    yield
    _load._warned.clear()


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


def test_a_load_waits_for_no_other_transaction(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """Two that load the same aggregates in another order would else be a deadlock."""
    fold = Fold(count, Counted, snapshot_every=3, keep_snapshots=1)
    events.save_snapshot(store, "Stream", "a", version=add(store, 1), state=expected(1))
    add(store, 4)
    with store.transaction() as transaction, caplog.at_level(logging.WARNING):
        assert events.load(transaction, "Stream", "a", fold).state == expected(5)
        assert versions(transaction) == [5]
        with store.transaction() as second:
            second.run(_statement("SET LOCAL lock_timeout = '1s'"))
            assert events.load(second, "Stream", "a", fold).state == expected(5)
            assert versions(second) == [1]
    assert versions(store) == [5]
    assert not caplog.records, "it waited, and gave up"


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
    connection.execute(f"GRANT SELECT ON event_log, event_segments, snapshots, aggregates TO {role}".encode())
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
