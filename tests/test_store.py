"""The verbs of Db, on a Store and in a Transaction alike; opening and closing."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from rootstream_store.cache import Invalidate, Publish, SetValue
from rootstream_store.db import CachedQuery, Db
from rootstream_store.errors import (
    AlreadyExists,
    DatabaseError,
    InvalidInput,
    NotFound,
    PermissionDenied,
    QueryError,
    RootStreamError,
    SettingsError,
    StoreClosed,
    Timeout,
    TooManyRows,
    Unavailable,
)
from rootstream_store.flow import Flow, after_commit, atomically, cached, compute, maybe, one, rows, run
from rootstream_store.queries import Query
from rootstream_store.repositories import users
from rootstream_store.store import Store

from .factories import make_user
from .statements import ADD, ADD_MANY, ALL, COPY, COUNT, GET, NUMBERS, SET, SLEEP, Item, make_items, statement


@pytest.fixture
def items(store: Store, database_url: str) -> Store:
    make_items(database_url)
    return store


@pytest.fixture(params=["store", "transaction"])
def db(items: Store, request: pytest.FixtureRequest) -> Iterator[Db]:
    if request.param == "store":
        yield items
        return
    with items.transaction() as transaction:
        yield transaction


def test_one(db: Db) -> None:
    assert db.one(ADD, id=1, name="first") == Item(id=1, name="first")
    assert db.one(GET, id=1) == Item(id=1, name="first")
    assert db.one(COUNT) == 1


def test_a_row_that_is_null_is_a_row(db: Db) -> None:
    null = statement("SELECT NULL::bigint", int)
    assert db.one(null) is None
    assert db.maybe(null) is None
    with db.batch() as batch:
        answer = batch.one(null)
    assert answer.value is None


def test_one_without_a_row(db: Db) -> None:
    with pytest.raises(NotFound) as caught:
        db.one(GET, id=7)
    assert caught.value.entity == "item"
    assert caught.value.key == {"id": 7}
    assert caught.value.query == "sql/items/get.sql"
    assert str(caught.value) == "no item with id=7 (in sql/items/get.sql)"


@pytest.mark.parametrize("verb", ["one", "maybe"])
def test_more_rows_than_one(db: Db, verb: str) -> None:
    with pytest.raises(TooManyRows, match=r"not 2 \(in sql/items/numbers.sql\)"):
        getattr(db, verb)(NUMBERS, count=2)


def test_maybe(db: Db) -> None:
    assert db.maybe(GET, id=1) is None
    db.run(ADD_MANY, count=1)
    assert db.maybe(GET, id=1) == Item(id=1, name="item 1")


def test_all_keeps_the_order(db: Db) -> None:
    assert db.all(ALL) == []
    db.run(ADD_MANY, count=3)
    assert [item.id for item in db.all(ALL)] == [1, 2, 3]
    assert db.all(NUMBERS, count=5000) == list(range(1, 5001))


def test_run_counts_rows(db: Db) -> None:
    assert db.run(ADD_MANY, count=3) == 3
    assert db.run(SET, id=2, name="two") == 1
    assert db.run(SET, id=9, name="nine") == 0


def test_a_statement_without_rows_is_no_query_for_one(db: Db) -> None:
    with pytest.raises(QueryError, match=r"items/set"):
        db.one(SET, id=1, name="x")


def test_stream(db: Db) -> None:
    with db.stream(NUMBERS, size=10, count=95) as numbers:
        assert list(numbers) == list(range(1, 96))


def test_streams_of_one_query_side_by_side(items: Store) -> None:
    with (
        items.transaction() as tx,
        tx.stream(NUMBERS, size=2, count=5) as first,
        tx.stream(NUMBERS, size=2, count=5) as second,
    ):
        assert list(zip(first, second, strict=True)) == [(n, n) for n in range(1, 6)]


def test_a_stream_is_left_early(db: Db) -> None:
    with db.stream(NUMBERS, size=10, count=1000) as numbers:
        assert next(numbers) == 1
    assert db.one(COUNT) == 0


def test_a_stream_that_fails_half_way_says_so_inside_the_block(items: Store) -> None:
    query = statement(
        "SELECT 1 / (%(last)s::bigint - n) FROM generate_series(1, 100) AS n", int, "items/failing"
    )
    inside: list[InvalidInput] = []

    def read() -> None:
        with items.stream(query, size=5, last=50) as numbers:
            try:
                list(numbers)
            except InvalidInput as error:
                inside.append(error)
                raise

    with pytest.raises(InvalidInput, match="division by zero") as caught:
        read()
    assert inside == [caught.value]


@pytest.mark.parametrize("size", [0, -1, "x", float("nan"), 1.5, None, True, 2**31])
def test_stream_of_no_size(db: Db, size: Any) -> None:
    with pytest.raises(InvalidInput) as caught, db.stream(NUMBERS, size=size, count=1):
        raise AssertionError("never entered")
    assert caught.value.field == "size"


def test_what_the_block_of_a_stream_raises_is_not_touched(items: Store) -> None:
    mine = psycopg.ProgrammingError("of somebody else's")
    with pytest.raises(psycopg.ProgrammingError) as caught, items.stream(NUMBERS, count=3):
        raise mine
    assert caught.value is mine
    assert mine.args == ("of somebody else's",)


def test_copy(db: Db) -> None:
    made = db.copy(COPY, ((n, f"copied {n}") for n in range(1, 1001)), ("bigint", "text"))
    assert made == 1000
    assert db.one(COUNT) == 1000


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ((2**63, "x"), "id"),
        ((2, "a\0b"), "name"),
        (("2", "x"), "id"),
        ((2, "\ud800"), "name"),
        ((True, "x"), "id"),
    ],
)
def test_copy_of_a_value_that_does_not_fit_writes_nothing(
    items: Store, row: tuple[object, ...], field: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        items.copy(COPY, [(1, "good"), row], ("bigint", "text"))
    assert caught.value.field == field
    assert caught.value.query == "sql/items/copy.sql"
    assert caught.value.__notes__ == ["in row 2"]
    assert items.one(COUNT) == 0


def test_copy_of_a_row_of_another_width(items: Store) -> None:
    with pytest.raises(InvalidInput, match="2 values"):
        items.copy(COPY, [(1, "good", 3)], ("bigint", "text"))
    with pytest.raises(QueryError, match="types"):
        items.copy(COPY, [], ("bigint",))
    assert items.one(COUNT) == 0


def test_copy_that_the_server_refuses_writes_nothing(items: Store) -> None:
    with pytest.raises(AlreadyExists):
        items.copy(COPY, [(1, "a"), (2, "a")], ("bigint", "text"))
    with pytest.raises(InvalidInput):
        items.copy(COPY, [(1, "a"), (2, None)], ("bigint", "text"))
    assert items.one(COUNT) == 0


def test_copy_whose_rows_fail_writes_nothing(items: Store) -> None:
    def half() -> Iterator[tuple[int, str]]:
        yield 1, "a"
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        items.copy(COPY, half(), ("bigint", "text"))
    assert items.one(COUNT) == 0


# Batches


def send(db: Db, *calls: tuple[Query[Any], dict[str, Any]]) -> None:
    with db.batch() as batch:
        for query, params in calls:
            batch.run(query, **params)


def test_batch(db: Db) -> None:
    with db.batch() as batch:
        made = batch.one(ADD, id=1, name="first")
        changed = batch.run(SET, id=1, name="second")
        found = batch.maybe(GET, id=1)
        missing = batch.maybe(GET, id=2)
        every = batch.all(ALL)
        assert len(batch) == 5
        with pytest.raises(QueryError, match="not been sent"):
            _ = made.value
    assert made.value == Item(id=1, name="first")
    assert changed.value == 1
    assert found.value == Item(id=1, name="second")
    assert missing.value is None
    assert every.value == [Item(id=1, name="second")]


def test_an_empty_batch(db: Db) -> None:
    with db.batch() as batch:
        pass
    assert len(batch) == 0


def test_an_answer_of_a_batch_raises_as_its_call_would(db: Db) -> None:
    with db.batch() as batch:
        missing = batch.one(GET, id=1)
        many = batch.one(NUMBERS, count=2)
        good = batch.one(COUNT)
    with pytest.raises(NotFound, match="id=1"):
        _ = missing.value
    with pytest.raises(TooManyRows):
        _ = many.value
    assert good.value == 0


def test_a_batch_whose_block_raises_is_not_sent(db: Db) -> None:
    def send() -> None:
        with db.batch() as batch:
            batch.one(ADD, id=1, name="first")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        send()
    assert db.one(COUNT) == 0


def test_a_batch_checks_values_at_once(db: Db) -> None:
    with pytest.raises(InvalidInput):
        send(db, (ADD, {"id": 1, "name": "first"}), (ADD, {"id": 2, "name": "\0"}))
    assert db.one(COUNT) == 0


@pytest.mark.parametrize("place", range(5))
def test_a_failed_batch_names_the_statement_at_fault_and_applies_nothing(items: Store, place: int) -> None:
    calls: list[tuple[Any, dict[str, Any]]] = [
        (ADD, {"id": 10 + n, "name": f"good {n}"}) if n % 2 else (SET, {"id": n, "name": "x"})
        for n in range(4)
    ]
    calls.insert(place, (statement(ADD.text, Item, "items/at_fault"), {"id": 1, "name": "bad"}))
    for _ in range(2):  # the second time all of it is prepared
        with pytest.raises(InvalidInput) as caught:
            send(items, *calls)
        assert caught.value.query == "sql/items/at_fault.sql"
        assert caught.value.field == "name"
        assert items.one(COUNT) == 0
    with items.batch() as batch:
        added = batch.one(ADD, id=1, name="works")
    assert added.value.name == "works"


def test_a_batch_that_fails_at_commit(items: Store) -> None:
    defer = statement("SET CONSTRAINTS items_name_key DEFERRED")
    with pytest.raises(AlreadyExists) as caught:
        send(items, (defer, {}), (ADD, {"id": 1, "name": "same"}), (ADD, {"id": 2, "name": "same"}))
    assert caught.value.query is None, "no statement is at fault"
    assert items.one(COUNT) == 0


def test_a_failed_batch_in_a_transaction_leaves_the_transaction_usable(items: Store) -> None:
    with items.transaction() as tx:
        tx.one(ADD, id=1, name="kept")
        with pytest.raises(InvalidInput):
            send(tx, (ADD, {"id": 2, "name": "dropped"}), (ADD, {"id": 3, "name": "bad"}))
        assert tx.one(COUNT) == 1
    assert [item.name for item in items.all(ALL)] == ["kept"]


# Flows


def test_flow(db: Db) -> None:
    def steps() -> Flow[list[object]]:
        made = yield from one(ADD, id=1, name="first")
        changed = yield from run(SET, id=1, name="second")
        found = yield from maybe(GET, id=1)
        every = yield from rows(ALL)
        number = yield from compute(int, "42")
        yield from after_commit()
        return [made, changed, found, every, number]

    assert db.flow(steps()) == [
        Item(id=1, name="first"),
        1,
        Item(id=1, name="second"),
        [Item(id=1, name="second")],
        42,
    ]


def test_a_flow_may_handle_the_error_of_a_step(items: Store) -> None:
    def steps() -> Flow[str]:
        try:
            yield from one(GET, id=1)
        except NotFound:
            return "none"
        return "some"

    assert items.flow(steps()) == "none"


def test_a_flow_sees_any_exception_of_a_step_and_cleans_up(items: Store) -> None:
    seen: list[str] = []

    def steps() -> Flow[None]:
        try:
            yield from compute(int, "x")
        except ValueError:
            seen.append("caught")
            raise
        finally:
            seen.append("cleaned")

    with pytest.raises(ValueError, match="invalid literal"):
        items.flow(steps())
    assert seen == ["caught", "cleaned"]


def test_a_step_that_raises_stop_iteration_does_not_end_the_flow_quietly(items: Store) -> None:
    def steps() -> Flow[str]:
        yield from compute(next, iter(()))
        return "not reached"

    with pytest.raises((RuntimeError, StopIteration)):
        items.flow(steps())


def test_an_atomic_flow_is_all_or_nothing(db: Db) -> None:
    def steps() -> Flow[None]:
        yield from one(ADD, id=1, name="first")
        yield from after_commit(Invalidate("x"))
        yield from one(GET, id=99)

    with pytest.raises(NotFound):
        db.flow(steps(), atomic=True)
    assert db.one(COUNT) == 0, "also where a transaction around it goes on"


def test_a_flow_in_a_flow(db: Db) -> None:
    def inner() -> Flow[int]:
        yield from one(ADD, id=1, name="first")
        number: int = yield from one(COUNT)
        return number

    def outer() -> Flow[int]:
        return (yield from atomically(inner()))

    assert db.flow(outer()) == 1


# The cache


CACHED = CachedQuery(GET, key="item:{id}".format, ttl=60)


def test_cached(items: Store) -> None:
    items.one(ADD, id=1, name="first")
    assert items.cached(CACHED, id=1) == Item(id=1, name="first")
    items.run(SET, id=1, name="second")
    assert items.cached(CACHED, id=1) == Item(id=1, name="first"), "from Redis"
    with items.transaction() as tx:
        assert tx.cached(CACHED, id=1) == Item(id=1, name="second"), "never in a transaction"
    items.after_commit(Invalidate("item:1"))
    assert items.cached(CACHED, id=1) == Item(id=1, name="second")


def test_cached_none(items: Store) -> None:
    assert items.cached(CACHED, id=1) is None
    items.one(ADD, id=1, name="first")
    assert items.cached(CACHED, id=1) is None, "that there is none is cached, for a short time"
    items.after_commit(Invalidate("item:1"))
    assert items.cached(CACHED, id=1) == Item(id=1, name="first")


def test_cached_in_a_flow(items: Store) -> None:
    items.one(ADD, id=1, name="first")
    assert items.flow(cached(CACHED, id=1)) == Item(id=1, name="first")


@pytest.mark.parametrize("payload", [b"{", b'{"id": 1}', b'{"id": "1", "name": 2}', b"null", b"\xff"])
def test_what_is_cached_but_is_no_such_record_is_read_from_the_database(items: Store, payload: bytes) -> None:
    items.one(ADD, id=1, name="first")
    items.cached(CACHED, id=1)
    stored = items._cache._lease.generation.head + payload
    items.redis.set("item:1", stored)
    assert items.cached(CACHED, id=1) == Item(id=1, name="first")
    assert items.redis.get("item:1") != stored


def test_cached_without_redis(items: Store, database_url: str) -> None:
    items.one(ADD, id=1, name="first")
    with Store.open(database_url, pool_size=1) as plain:
        assert plain.cached(CACHED, id=1) == Item(id=1, name="first")
        plain.after_commit(Publish("x", "y"))
        with pytest.raises(SettingsError, match="redis_url"):
            _ = plain.redis


def test_cached_checks_its_parameters(items: Store) -> None:
    with pytest.raises(InvalidInput):
        items.cached(CACHED, id="1")
    with pytest.raises(QueryError):
        items.cached(CACHED, name="1")


def test_effects_of_a_store_run_at_once(items: Store) -> None:
    items.after_commit(SetValue("plain", "value", 10), Publish("channel", "payload"))
    assert items.redis.get("plain") == b"value"


# Parameters


@pytest.mark.parametrize("verb", ["one", "maybe", "all", "run"])
def test_wrong_parameters_name_the_file(db: Db, verb: str) -> None:
    with pytest.raises(QueryError, match=r"missing id; unknown ident \(in sql/items/get.sql\)"):
        getattr(db, verb)(GET, ident=1)
    with pytest.raises(InvalidInput, match=r"id: must be an integer") as caught:
        getattr(db, verb)(GET, id="1")
    assert caught.value.field == "id"
    assert not caught.value.retryable


def test_a_parameter_may_be_called_as_an_argument_of_the_verb(db: Db) -> None:
    named = statement("SELECT %(query)s::bigint + %(self)s::bigint", int)
    values = {"query": 1, "self": 2}
    assert db.one(named, **values) == 3


# Opening and closing


@pytest.fixture
def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def test_unreachable_server_at_open(free_port: int) -> None:
    started = time.monotonic()
    with pytest.raises(Unavailable) as caught:
        Store.open(f"postgresql://ann:hunter2@127.0.0.1:{free_port}/app")
    assert time.monotonic() - started < 3
    assert caught.value.retryable
    assert not caught.value.outcome_unknown
    assert f"127.0.0.1:{free_port}" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_unreachable_socket_directory_is_named(tmp_path: Any) -> None:
    with pytest.raises(Unavailable, match=str(tmp_path)):
        Store.open(f"postgresql:///app?host={tmp_path}")


def test_refused_login(database_url: str) -> None:
    with pytest.raises(PermissionDenied, match="nobody_at_all") as caught:
        Store.open(make_conninfo(database_url, user="nobody_at_all", password="hunter2"))
    assert not caught.value.retryable
    assert "hunter2" not in str(caught.value)


def test_database_that_is_not_there(database_url: str) -> None:
    with pytest.raises(SettingsError, match="no_such_database"):
        Store.open(make_conninfo(database_url, dbname="no_such_database"))


def test_redis_that_is_down_is_no_obstacle(database_url: str, free_port: int) -> None:
    make_items(database_url)
    with Store.open(database_url, f"redis://127.0.0.1:{free_port}/0") as store:
        store.one(ADD, id=1, name="first")
        assert store.cached(CACHED, id=1) == Item(id=1, name="first")
        with store.transaction() as tx:
            tx.run(SET, id=1, name="second")
            tx.after_commit(Invalidate("item:1"), Publish("a", "b"))
        assert store.cached(CACHED, id=1) == Item(id=1, name="second")


def test_a_failed_open_leaves_no_thread(free_port: int) -> None:
    before = set(threading.enumerate())
    with pytest.raises(Unavailable):
        Store.open(f"postgresql://127.0.0.1:{free_port}/app")
    assert set(threading.enumerate()) <= before


def test_closed_store(database_url: str, redis_url: str) -> None:
    store = Store.open(database_url, redis_url)
    store.close()
    store.close()
    for call in (
        lambda: store.one(COUNT),
        lambda: store.transaction().__enter__(),
        lambda: store.copy(COPY, [], ("bigint", "text")),
        lambda: store.stream(NUMBERS, count=1).__enter__(),
        lambda: store.transact(lambda tx: None),
    ):
        with pytest.raises(StoreClosed) as caught:
            call()
        assert not caught.value.retryable
    with pytest.raises(StoreClosed), store.batch() as batch:
        batch.one(COUNT)
    with pytest.raises(StoreClosed):
        _ = store.redis


def test_a_closed_store_answers_nothing_from_redis(database_url: str, redis_url: str) -> None:
    make_items(database_url)
    cached_item = CachedQuery(GET, key="item:{id}".format, ttl=60)
    with Store.open(database_url, redis_url) as store:
        store.one(ADD, id=1, name="a")
        for _ in range(2):
            assert store.cached(cached_item, id=1) == Item(id=1, name="a")
    with pytest.raises(StoreClosed):
        store.cached(cached_item, id=1)


def test_closing_ends_the_server_sessions(database_url: str, redis_url: str, servers: Any) -> None:
    with Store.open(database_url, redis_url, application_name="to be closed", pool_min_size=3) as store:
        store.one(COUNT_SESSIONS, name="to be closed")
    with psycopg.connect(servers.database_url) as admin:
        deadline = time.monotonic() + 5
        while admin.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'to be closed'"
        ).fetchone() != (0,):
            admin.rollback()
            assert time.monotonic() < deadline
            time.sleep(0.01)


COUNT_SESSIONS = statement(
    "SELECT count(*) FROM pg_stat_activity WHERE application_name = %(name)s::text", int
)


def test_close_while_a_thread_waits_for_a_connection(database_url: str) -> None:
    store = Store.open(database_url, pool_size=1, pool_timeout=60)
    outcome: list[BaseException] = []
    waiting = threading.Event()

    def wait() -> None:
        waiting.set()
        try:
            store.one(COUNT_SESSIONS, name="x")
        except RootStreamError as error:
            outcome.append(error)

    with store.transaction() as tx:
        thread = threading.Thread(target=wait)
        thread.start()
        waiting.wait()
        deadline = time.monotonic() + 5
        while not store._pool.stats().get("requests_waiting"):
            assert time.monotonic() < deadline
            time.sleep(0.005)
        started = time.monotonic()
        store.close()
        thread.join(5)
        assert time.monotonic() - started < 3
        assert [type(error) for error in outcome] == [StoreClosed]
        assert tx.one(COUNT_SESSIONS, name="x") == 0, "who has a connection goes on to the end"
    assert store._pool.in_use() == 0


def test_a_statement_that_takes_too_long(database_url: str) -> None:
    with Store.open(database_url, statement_timeout=0.05) as store:
        with pytest.raises(Timeout, match="statement timeout") as caught:
            store.run(SLEEP, seconds=10.0)
        assert caught.value.retryable
        assert caught.value.sqlstate == "57014"
        assert caught.value.query == "sql/items/sleep.sql"


def test_reprs_tell_no_password(database_url: str, redis_url: str) -> None:
    with Store.open(make_conninfo(database_url, password="hunter2"), redis_url) as store:
        text = f"{store!r} {store} {store.settings!r} {store.settings} {GET!r}"
        with store.transaction() as tx:
            text += f" {tx!r}"
        assert "hunter2" not in text
        assert "***" in text
        assert "pool_size=8" in text


def test_nothing_secret_is_logged(
    database_url: str, free_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(Unavailable):
        Store.open(f"postgresql://ann:hunter2@127.0.0.1:{free_port}/app")
    with (
        Store.open(make_conninfo(database_url, password="hunter2")) as store,
        pytest.raises(RootStreamError),
    ):
        store.one(statement("SELECT 1 / 0 AS password", int))
    assert "hunter2" not in caplog.text


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("verb", ["one", "cached"])
def test_a_forked_child_may_not_use_its_parents_store(items: Store, verb: str) -> None:
    cached_item = CachedQuery(GET, key="item:{id}".format, ttl=60)
    assert items.cached(cached_item, id=1) is None
    child = os.fork()
    if child == 0:
        try:
            if verb == "one":
                items.one(COUNT)
            else:
                items.cached(cached_item, id=1)
        except StoreClosed:
            os._exit(17)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 17
    assert items.one(COUNT) == 0


def test_where_a_syntax_error_is(items: Store) -> None:
    wrong = statement(
        "-- a comment\nSELECT %(first_name)s::text,\n  %(other_name)s::text, nope\nFROM items", Item
    )
    with pytest.raises(QueryError, match='column "nope" does not exist') as caught:
        items.all(wrong, first_name="x", other_name="y")
    assert caught.value.__notes__ == ["sql/items/test.sql, near line 3, column 25"]


def test_a_record_of_other_fields_than_the_columns(items: Store) -> None:
    with pytest.raises(QueryError, match=r"columns id are not the fields of Item: id, name"):
        items.all(statement("SELECT 1::bigint AS id", Item))
    with pytest.raises(QueryError, match="one column expected, not a, b"):
        items.all(statement("SELECT 1 AS a, 2 AS b", int))


def test_a_time_that_python_cannot_hold(items: Store) -> None:
    far = statement("SELECT timestamptz '20000-01-01'", str)
    with pytest.raises(DatabaseError, match="10K") as caught:
        items.one(far)
    assert caught.value.query == "sql/items/test.sql"


UNREADABLE = {
    "infinity": "timestamptz 'infinity'",
    "deep": "(repeat('[', 5000) || repeat(']', 5000))::jsonb",
}


@pytest.mark.parametrize("value", UNREADABLE.values(), ids=UNREADABLE)
def test_a_row_that_python_cannot_hold_is_no_fault_of_the_caller(db: Db, value: str) -> None:
    query = statement(f"SELECT {value}", str, "items/unreadable")

    def stream() -> None:
        with db.stream(query) as found:
            list(found)

    for call in (lambda: db.one(query), lambda: db.all(query), stream):
        with pytest.raises(DatabaseError, match="cannot be read") as caught:
            call()
        assert caught.value.query == "sql/items/unreadable.sql"
        assert not caught.value.retryable


def test_a_row_of_a_batch_that_python_cannot_hold(db: Db) -> None:
    with db.batch() as batch:
        added = batch.one(ADD, id=1, name="a")
        wrong = batch.one(statement("SELECT timestamptz 'infinity'", str, "items/unreadable"))
    assert added.value == Item(id=1, name="a"), "it is applied, and what can be read is"
    for _ in range(2):
        with pytest.raises(DatabaseError) as caught:
            _ = wrong.value
        assert caught.value.query == "sql/items/unreadable.sql"
    assert db.one(COUNT) == 1


def test_a_column_whose_type_was_changed(store: Store, database_url: str) -> None:
    user = make_user(store, username="ann", display_name="Ann")

    def alter(length: int) -> None:
        with psycopg.connect(database_url, autocommit=True) as admin:
            admin.execute(f"ALTER TABLE users ALTER display_name TYPE varchar({length})")

    def get(db: Db) -> Any:
        return users.get(db, user.id)

    def get_in_a_batch(db: Db) -> Any:
        with db.batch() as batch:
            answer = batch.one(users._GET, user_id=user.id)
        return answer.value

    for length, read in ((200, get), (199, get_in_a_batch), (198, lambda db: store.transact(get))):
        # Several connections, each with the statement prepared.
        with store.transaction() as one, store.transaction() as two:
            for db in (one, two):
                read_first = get_in_a_batch if read is get_in_a_batch else get
                assert read_first(db).display_name == "Ann"
        alter(length)
        for _ in range(3):
            assert read(store).display_name == "Ann"
    with store.transaction() as tx:
        get(tx)
    alter(197)
    with pytest.raises(Unavailable, match="altered") as caught, store.transaction() as tx:
        get(tx)
    assert caught.value.retryable
    assert caught.value.sqlstate == "0A000"
    assert get(store).display_name == "Ann"


@pytest.mark.parametrize("invalidates", [[1], "key", None, 7, ["\ud800"]])
def test_keys_that_are_no_keys(db: Db, invalidates: Any) -> None:
    def steps() -> Flow[None]:
        yield from run(ADD, id=1, name="a")

    with pytest.raises(InvalidInput):
        db.flow(steps(), invalidates=invalidates)
    assert db.one(COUNT) == 0


def test_the_rows_of_a_large_answer_are_not_kept(items: Store) -> None:
    items.all(NUMBERS, count=5000)
    connection = items._pool.acquire()
    try:
        assert connection.transformer.pgresult is None
    finally:
        items._pool.release(connection)


def test_observers_see_every_statement(items: Store) -> None:
    seen: list[str] = []

    def observer(name: str, action: Any) -> Any:
        seen.append(name)
        return action()

    items.observe(observer)
    items.one(COUNT)
    items.copy(COPY, [(1, "a")], ("bigint", "text"))
    with items.transaction() as tx:
        tx.all(ALL)
        with tx.batch() as batch:
            batch.one(COUNT)
    items.observe(None)
    items.one(COUNT)
    assert seen == ["items/count", "items/copy", "items/all", "batch"]
