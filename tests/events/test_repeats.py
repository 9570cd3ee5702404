"""Appends made again: by the caller with the same event_id, and by the library after a lost connection."""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from rootstream_store import events
from rootstream_store.db import Db
from rootstream_store.errors import (
    AlreadyExists,
    InvalidInput,
    StoreClosed,
    Timeout,
    Unavailable,
    VersionConflict,
)
from rootstream_store.events import ANY, EXISTS, NO_STREAM, AggregateEvents, NewEvent
from rootstream_store.store import Store

from ..faults.proxy import Proxy
from ..waiting import until

MODES: list[Any] = [ANY, EXISTS, NO_STREAM, 0, 1]


def append(db: Any, event_id: uuid.UUID | None, **over: Any) -> Any:
    given: dict[str, Any] = {
        "aggregate_type": "Stream",
        "aggregate_id": "a",
        "event_type": "E",
        "data": {"n": 1},
        "metadata": {"m": 1},
        "user_id": 5,
    }
    return events.append(db, **(given | over), event_id=event_id)


def count(connection: psycopg.Connection) -> int:
    row = connection.execute(
        "SELECT count(*), (SELECT sum(version) FROM aggregates) FROM event_log"
    ).fetchone()
    assert row is not None
    assert row[0] == (row[1] or 0), "head rows and events must agree"
    return int(row[0])


@pytest.mark.parametrize("expected", MODES)
def test_a_repeat_returns_the_first_result(
    store: Store, connection: psycopg.Connection, expected: Any
) -> None:
    if expected in (EXISTS, 1):
        append(store, None)
    event_id = uuid.uuid4()
    first = append(store, event_id, expected=expected)
    append(store, None)  # others go on meanwhile
    before = count(connection)
    for _ in range(2):
        assert append(store, event_id, expected=expected) == first
    assert count(connection) == before


@pytest.mark.parametrize(
    "other",
    [
        {"data": {"n": 2}},
        {"data": {"n": 1, "more": None}},
        {"event_type": "Other"},
        {"metadata": None},
        {"metadata": {"m": 2}},
        {"user_id": 6},
        {"user_id": None},
        {"aggregate_id": "b"},
        {"aggregate_type": "Other"},
    ],
)
@pytest.mark.parametrize("expected", [ANY, NO_STREAM])
def test_an_id_with_other_content_is_refused(
    store: Store, connection: psycopg.Connection, expected: Any, other: dict[str, Any]
) -> None:
    event_id = uuid.uuid4()
    append(store, event_id, expected=expected)
    with pytest.raises(AlreadyExists) as caught:
        append(store, event_id, expected=expected, **other)
    assert (caught.value.entity, caught.value.field, caught.value.value) == ("event", "event_id", event_id)
    assert not caught.value.retryable
    assert count(connection) == 1


def test_equal_json_is_the_same_content(store: Store) -> None:
    event_id = uuid.uuid4()
    first = append(store, event_id, data={"a": 1, "b": [1.0]})
    assert append(store, event_id, data=b'{"b": [1.00], "a": 1}') == first


def test_a_repeat_inside_a_transaction_does_no_harm(store: Store, connection: psycopg.Connection) -> None:
    event_id = uuid.uuid4()
    first = append(store, event_id)
    with store.transaction() as tx:
        assert append(tx, event_id) == first
        with pytest.raises(AlreadyExists):
            append(tx, event_id, user_id=9)
        append(tx, None)
        second = uuid.uuid4()
        assert append(tx, second) == append(tx, second)
    assert count(connection) == 3


def test_many_threads_make_the_same_append(store: Store, connection: psycopg.Connection) -> None:
    for expected in (ANY, NO_STREAM):
        event_id, name = uuid.uuid4(), str(expected)

        def same(_: int, event_id: uuid.UUID = event_id, name: str = name, expected: Any = expected) -> Any:
            return append(store, event_id, aggregate_id=name, expected=expected)

        with ThreadPoolExecutor(8) as pool:
            results = set(pool.map(same, range(40)))
        assert len(results) == 1
    assert count(connection) == 2


def test_a_transaction_that_meets_the_same_append_can_be_run_again(
    store: Store, connection: psycopg.Connection
) -> None:
    append(store, None)
    event_id = uuid.uuid4()
    with ThreadPoolExecutor(1) as pool:
        with store.transaction() as tx:
            first = append(tx, event_id)
            second = pool.submit(store.transact, lambda again: append(again, event_id))
            until(lambda: is_somebody_waiting(connection), "the second waits for the head row")
        assert second.result(20) == first
    assert count(connection) == 2


def is_somebody_waiting(connection: psycopg.Connection) -> bool:
    row = connection.execute(
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE wait_event_type = 'Lock' AND datname = current_database()"
    ).fetchone()
    return row is not None and row[0] > 0


# --- batches


def batch(*ids: uuid.UUID | None, **over: Any) -> list[NewEvent]:
    return [
        NewEvent("E", {"n": number} | over.get("data", {}), user_id=over.get("user_id"), event_id=event_id)
        for number, event_id in enumerate(ids)
    ]


@pytest.mark.parametrize("expected", MODES)
def test_a_repeated_batch_returns_the_first_result(
    store: Store, connection: psycopg.Connection, expected: Any
) -> None:
    if expected in (EXISTS, 1):
        append(store, None)
    given = batch(None, uuid.uuid4(), None)  # one id is enough
    first = events.append_many(store, "Stream", "a", given, expected=expected)
    append(store, None)
    before = count(connection)
    assert events.append_many(store, "Stream", "a", given, expected=expected) == first
    assert count(connection) == before


@pytest.mark.parametrize("change", ["longer", "shorter", "data", "order", "user"])
def test_a_batch_that_is_not_the_same_is_refused(
    store: Store, connection: psycopg.Connection, change: str
) -> None:
    ids = uuid.uuid4(), uuid.uuid4()
    events.append_many(store, "Stream", "a", batch(*ids))
    other = {
        "longer": batch(*ids, None),
        "shorter": batch(ids[1]),
        "data": batch(*ids, data={"x": 1}),
        "order": batch(*reversed(ids)),
        "user": batch(*ids, user_id=1),
    }[change]
    with pytest.raises(AlreadyExists) as caught:
        events.append_many(store, "Stream", "a", other)
    assert caught.value.value in ids
    assert count(connection) == 2


def test_an_id_twice_in_one_batch_is_refused(store: Store, connection: psycopg.Connection) -> None:
    event_id = uuid.uuid4()
    with pytest.raises(InvalidInput) as caught:
        events.append_many(store, "Stream", "a", batch(event_id, event_id))
    assert caught.value.field == "events[1].event_id"
    assert count(connection) == 0


def test_appends_to_several_aggregates_are_repeatable(store: Store, connection: psycopg.Connection) -> None:
    given = [
        AggregateEvents("Stream", "a", batch(uuid.uuid4(), None)),
        AggregateEvents("User", 7, batch(None, uuid.uuid4())),
    ]
    first = events.append_together(store, given)
    append(store, None)
    assert events.append_together(store, given) == first
    with pytest.raises(AlreadyExists):
        events.append_together(store, [*given, AggregateEvents("User", 8, batch(uuid.uuid4()))])
    with pytest.raises(InvalidInput) as caught:
        events.append_together(store, [*given, AggregateEvents("User", 8, batch(None))])
    assert caught.value.field == "appends[2].events"
    assert count(connection) == 5


# --- lost answers


@pytest.fixture
def proxied(database_url: str) -> Iterator[tuple[Store, Proxy]]:
    """A store whose connection can be cut after a statement was carried out and before its answer comes."""
    with Proxy(database_url) as proxy, Store.open(proxy.database_url, pool_size=1) as store:
        yield store, proxy


def version(db: Db) -> int:
    return events.get_version(db, "Stream", "a")


APPENDS: dict[str, tuple[bool, Callable[[Any], Any]]] = {
    "exact": (True, lambda db: append(db, None, expected=version(db))),
    "exact, many": (
        True,
        lambda db: events.append_many(db, "Stream", "a", batch(None, None), expected=version(db)),
    ),
    "new": (True, lambda db: append(db, None, aggregate_id=uuid.uuid4().hex, expected=NO_STREAM)),
    "id": (True, lambda db: append(db, uuid.uuid4())),
    "id, many": (True, lambda db: events.append_many(db, "Stream", "a", batch(uuid.uuid4(), None))),
    "id, together": (
        True,
        lambda db: events.append_together(
            db,
            [
                AggregateEvents("Stream", "a", batch(uuid.uuid4())),
                AggregateEvents("X", uuid.uuid4().hex, batch(None, uuid.uuid4())),
            ],
        ),
    ),
    "any": (False, lambda db: append(db, None)),
    "existing": (False, lambda db: append(db, None, expected=EXISTS)),
}


def positions(appended: Any) -> list[int]:
    if isinstance(appended, list):
        return [position for part in appended for position in positions(part)]
    return [appended.position]


@contextlib.contextmanager
def losing_the_answer(
    store: Store, proxy: Proxy, connection: psycopg.Connection, act: Callable[[Any], Any]
) -> Iterator[Future[Any]]:
    """Runs `act`; once the server has committed, the connection is cut with the answer still held back."""
    append(store, None)
    act(store)  # so that the statement is prepared, and the next round trip is the append itself
    before = count(connection)
    held = threading.Event()

    def observe(name: str, action: Callable[[], Any]) -> Any:
        if name.startswith("events/append") and not held.is_set():
            held.set()
            proxy.hold_answers()
        return action()

    store.observe(observe)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(act, store)
        until(lambda: count(connection) > before, "the append is committed")
        proxy.sever()
        yield running


@pytest.mark.parametrize("name", APPENDS)
def test_a_lost_answer(proxied: tuple[Store, Proxy], connection: psycopg.Connection, name: str) -> None:
    """What cannot be applied twice is tried again, and tells where it went the first time."""
    store, proxy = proxied
    repeatable, act = APPENDS[name]
    with losing_the_answer(store, proxy, connection, act) as running:
        if repeatable:
            appended = positions(running.result(20))
            assert appended == list(range(min(appended), max(appended) + 1))
            assert max(appended) == count(connection), "nothing was appended twice"
        else:
            before = count(connection)
            with pytest.raises(Unavailable) as caught:
                running.result(20)
            assert caught.value.outcome_unknown
            assert not caught.value.retryable
            assert count(connection) == before
    assert append(store, None).position == count(connection), "and the store goes on"


def test_a_conflict_after_a_lost_answer_is_a_conflict(
    proxied: tuple[Store, Proxy], connection: psycopg.Connection
) -> None:
    """Somebody else's event at that version is not taken for ours."""
    store, _ = proxied
    append(store, None)
    refused: list[Any] = []

    def observe(name: str, action: Callable[[], Any]) -> Any:
        if name == "events/append_exact" and not refused:
            refused.append(name)
            append_behind(connection)
            raise Unavailable("lost", outcome_unknown=True)
        return action()

    store.observe(observe)
    with pytest.raises(VersionConflict) as caught:
        append(store, None, expected=1)
    assert refused
    assert caught.value.actual == 2
    assert count(connection) == 2


@pytest.mark.parametrize("name", [name for name, (repeatable, _) in APPENDS.items() if repeatable])
@pytest.mark.parametrize("second", [Unavailable("cannot reach it"), Timeout("too long"), StoreClosed("shut")])
def test_what_cannot_be_found_out_stays_unknown(
    database_url: str, connection: psycopg.Connection, name: str, second: Exception
) -> None:
    """The append was applied, its answer lost, and then there is no server to ask: nobody may say that
    nothing was applied."""
    calls: list[str] = []

    def observe(query: str, action: Callable[[], Any]) -> Any:
        if not query.startswith(("events/append", "events/find_repeated")):
            return action()
        calls.append(query)
        if len(calls) == 1:
            action()
            raise Unavailable("the connection was lost", outcome_unknown=True)
        raise second

    with Store.open(database_url, retry_deadline=0) as store:
        append(store, None)
        store.observe(observe)
        with pytest.raises(Unavailable) as caught:
            APPENDS[name][1](store)
    assert len(calls) > 1
    assert caught.value.outcome_unknown
    assert not caught.value.retryable
    assert count(connection) > 1


def test_one_id_in_two_aggregates_at_the_same_moment(store: Store, connection: psycopg.Connection) -> None:
    """Neither saw the other; from then on each is repeated by its own."""
    event_id = uuid.uuid4()
    with ThreadPoolExecutor(1) as pool, store.transaction() as tx:
        first = append(tx, event_id)
        second = pool.submit(append, store, event_id, aggregate_id="b").result(20)
    assert append(store, event_id) == first
    assert append(store, event_id, aggregate_id="b") == second
    with pytest.raises(AlreadyExists):
        append(store, event_id, aggregate_id="c")
    assert count(connection) == 2


def append_behind(connection: psycopg.Connection) -> None:
    """The very same content at that version, by somebody else."""
    connection.execute("UPDATE aggregates SET version = 2")
    connection.execute(
        "INSERT INTO event_log "
        "(aggregate_id, aggregate_type, version, event_type, event_data, metadata, user_id) "
        """VALUES ('a', 'Stream', 2, 'E', '{"n": 1}', '{"m": 1}', 5)"""
    )
