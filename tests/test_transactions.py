"""All of a block or none of it, with its effects on Redis, whatever goes wrong in it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from rootstream_store.cache import Invalidate, Publish, SetValue
from rootstream_store.db import CachedQuery
from rootstream_store.errors import (
    AlreadyExists,
    Conflict,
    InvalidInput,
    NotFound,
    RootStreamError,
    StoreClosed,
    Timeout,
)
from rootstream_store.repositories import users
from rootstream_store.store import Store
from rootstream_store.transaction import Transaction

from .factories import make_user
from .statements import (
    ADD,
    ADD_MANY,
    ALL,
    BACKEND,
    COPY,
    COUNT,
    DIVIDE,
    GET,
    NUMBERS,
    SET,
    SLEEP,
    Item,
    make_items,
    statement,
)
from .waiting import in_thread, until

LEVEL = statement("SELECT current_setting('transaction_isolation')", str)


@pytest.fixture
def items(store: Store, database_url: str) -> Store:
    make_items(database_url)
    return store


def names(store: Store) -> list[str]:
    return [item.name for item in store.all(ALL)]


def test_commit(items: Store) -> None:
    with items.transaction() as tx:
        tx.one(ADD, id=1, name="a")
        tx.run(SET, id=1, name="b")
        assert tx.one(GET, id=1).name == "b", "reads its own writes"
        assert items.one(COUNT) == 0, "which others do not see yet"
    assert names(items) == ["b"]


@pytest.mark.parametrize(
    "error", [RuntimeError, KeyboardInterrupt, SystemExit, GeneratorExit, psycopg.DataError]
)
def test_any_exception_rolls_back_and_is_raised_as_it_was(items: Store, error: type[BaseException]) -> None:
    mine = error("mine")

    def work() -> None:
        with items.transaction() as tx:
            tx.one(ADD, id=1, name="a")
            raise mine

    with pytest.raises(error) as caught:
        work()
    assert caught.value is mine
    assert mine.args == ("mine",)
    assert names(items) == []
    assert items._pool.in_use() == 0


def test_a_psycopg_error_of_the_callers_own_is_not_taken_for_ours(items: Store, database_url: str) -> None:
    def work() -> None:
        with items.transaction(), psycopg.connect(database_url) as other:
            other.execute("SELECT 1 / 0")

    with pytest.raises(psycopg.errors.DivisionByZero):
        work()


def test_a_generator_that_is_closed_inside_rolls_back(items: Store) -> None:
    def work() -> Iterator[int]:
        with items.transaction() as tx:
            tx.one(ADD, id=1, name="a")
            yield 1

    generator = work()
    next(generator)
    generator.close()  # type: ignore[attr-defined]  # a generator, told as an iterator
    assert names(items) == []
    assert items._pool.in_use() == 0


def test_ctrl_c_during_a_statement(items: Store) -> None:
    main = threading.main_thread().ident
    assert main is not None

    def press() -> None:
        until(lambda: items.one(RUNNING, text="%pg_sleep%") == 1, "the sleep has begun")
        signal.pthread_kill(main, signal.SIGINT)

    def work() -> None:
        with items.transaction() as tx:
            tx.one(ADD, id=1, name="a")
            tx.run(SLEEP, seconds=30.0)

    thread = in_thread(press)
    with pytest.raises(KeyboardInterrupt):
        work()
    thread.join()
    assert names(items) == []
    assert items.one(RUNNING, text="%pg_sleep%") == 0, "the server was told"
    assert items._pool.in_use() == 0


RUNNING = statement(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
    "AND state = 'active' AND query LIKE %(text)s::text",
    int,
)


def test_a_failed_statement_that_was_handled_cannot_be_committed_in_silence(items: Store) -> None:
    def work() -> None:
        with items.transaction() as tx:
            tx.after_commit(SetValue("effect", "1", 10))
            tx.one(ADD, id=1, name="a")
            with pytest.raises(InvalidInput):
                tx.one(DIVIDE, by=0)

    with pytest.raises(Conflict, match="only be rolled back"):
        work()
    assert names(items) == []
    assert items.redis.get("effect") is None


def test_a_statement_after_a_failed_one(items: Store) -> None:
    def work() -> None:
        with items.transaction() as tx:
            with pytest.raises(AlreadyExists):
                tx.run(ADD_MANY, count=1), tx.run(ADD_MANY, count=1)
            tx.one(COUNT)

    with pytest.raises(Conflict, match="has failed before") as caught:
        work()
    assert not caught.value.retryable
    assert caught.value.sqlstate == "25P02"
    assert caught.value.query == "sql/items/count.sql"


def test_a_constraint_checked_at_commit(items: Store) -> None:
    def work() -> None:
        with items.transaction() as tx:
            tx.after_commit(SetValue("effect", "1", 10))
            tx.run(statement("SET CONSTRAINTS items_name_key DEFERRED"))
            tx.one(ADD, id=1, name="same")
            tx.one(ADD, id=2, name="same")

    with pytest.raises(AlreadyExists) as caught:
        work()
    assert caught.value.constraint == "items_name_key"
    assert names(items) == []
    assert items.redis.get("effect") is None
    assert items._pool.in_use() == 0


# Savepoints


def test_a_nested_transaction_that_fails_leaves_the_outer_one(items: Store) -> None:
    def nested(tx: Transaction) -> None:
        with tx.transaction() as inner:
            inner.one(ADD, id=2, name="b")
            inner.after_commit(SetValue("inner", "1", 10))
            inner.one(ADD, id=3, name="b")

    with items.transaction() as tx:
        tx.after_commit(SetValue("outer", "1", 10))
        tx.one(ADD, id=1, name="a")
        with pytest.raises(AlreadyExists):
            nested(tx)
        tx.one(ADD, id=4, name="d")
    assert names(items) == ["a", "d"]
    assert items.redis.get("outer") == b"1"
    assert items.redis.get("inner") is None


def test_a_nested_transaction_that_ends_well_belongs_to_the_outer_one(items: Store) -> None:
    def work(fail: bool) -> None:
        with items.transaction() as tx:
            with tx.transaction() as inner, inner.transaction() as innermost:
                innermost.one(ADD, id=1, name="a")
                innermost.after_commit(SetValue("inner", "1", 10))
            assert items.redis.get("inner") is None
            if fail:
                raise RuntimeError

    with pytest.raises(RuntimeError):
        work(True)
    assert names(items) == []
    assert items.redis.get("inner") is None
    work(False)
    assert names(items) == ["a"]
    assert items.redis.get("inner") == b"1"


def test_a_failure_that_was_handled_inside_a_savepoint_cannot_be_kept(items: Store) -> None:
    def nested(tx: Transaction) -> None:
        with tx.transaction() as inner:
            inner.one(ADD, id=2, name="b")
            with pytest.raises(InvalidInput):
                inner.one(DIVIDE, by=0)

    with items.transaction() as tx:
        tx.one(ADD, id=1, name="a")
        with pytest.raises(Conflict):
            nested(tx)
    assert names(items) == ["a"]


def test_isolation_of_a_savepoint(items: Store) -> None:
    with (
        items.transaction() as tx,
        pytest.raises(InvalidInput) as caught,
        tx.transaction(isolation="serializable"),
    ):
        raise AssertionError("never entered")
    assert caught.value.field == "isolation"


# Effects


def test_effects_only_after_the_commit_and_never_after_a_rollback(items: Store) -> None:
    with items.subscribe("channel") as subscription:
        with items.transaction() as tx:
            tx.after_commit(Publish("channel", "committed"), SetValue("key", "1", 10))
            tx.one(ADD, id=1, name="a")
            assert items.redis.get("key") is None

        def fail() -> None:
            with items.transaction() as tx:
                tx.after_commit(Publish("channel", "rolled back"))
                raise RuntimeError

        with pytest.raises(RuntimeError):
            fail()
        items.after_commit(Publish("channel", "last"))
        received = [subscription.get(5), subscription.get(5)]
    assert [message.data for message in received if message is not None] == [b"committed", b"last"]  # type: ignore[union-attr]  # a Gap fails here too
    assert items.redis.get("key") == b"1"


def test_who_is_woken_by_an_effect_sees_the_change(items: Store) -> None:
    seen: list[int] = []
    with items.subscribe("channel") as subscription:

        def listen() -> None:
            subscription.get(10)
            seen.append(items.one(COUNT))

        thread = in_thread(listen)
        with items.transaction() as tx:
            tx.after_commit(Publish("channel", "x"))
            tx.run(ADD_MANY, count=3)
        thread.join(10)
    assert seen == [3]


def test_a_cached_answer_is_dropped_with_the_commit_and_also_after_a_rollback(items: Store) -> None:
    cached = CachedQuery(GET, key="item:{id}".format, ttl=60)
    items.one(ADD, id=1, name="a")
    assert items.cached(cached, id=1) == Item(id=1, name="a")
    with items.transaction() as tx:
        tx.run(SET, id=1, name="b")
        tx.after_commit(Invalidate("item:1"))
        assert items.cached(cached, id=1) == Item(id=1, name="a"), "until the commit the old one is true"
    assert items.redis.get("item:1") is None, "no mark of a write is left"
    assert items.cached(cached, id=1) == Item(id=1, name="b")
    assert b'"b"' in (items.redis.get("item:1") or b""), "and it is cached again"

    def fail() -> None:
        with items.transaction() as tx:
            tx.run(SET, id=1, name="c")
            tx.after_commit(Invalidate("item:1"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert items.cached(cached, id=1) == Item(id=1, name="b")


# Use


def test_a_repository_call_inside_ones_own_transaction_needs_no_second_connection(
    database_url: str, redis_url: str
) -> None:
    with Store.open(database_url, redis_url, pool_size=1, pool_timeout=0.3) as store:
        with store.transaction() as tx:
            user = make_user(tx)
            assert users.get(tx, user.id) == user
            with tx.transaction() as inner:
                users.update_profile(inner, user.id, display_name="Ann")
            with pytest.raises(Timeout, match="exhausted"):
                users.get(store, user.id)
        assert users.get(store, user.id).display_name == "Ann"


def test_use_after_the_end(items: Store) -> None:
    with items.transaction() as tx:
        pass
    for use in (
        lambda: tx.one(COUNT),
        lambda: tx.maybe(GET, id=1),
        lambda: tx.all(ALL),
        lambda: tx.run(SET, id=1, name="x"),
        lambda: tx.copy(COPY, [], ("bigint", "text")),
        lambda: tx.stream(NUMBERS, count=1).__enter__(),
        lambda: tx.transaction().__enter__(),
        lambda: tx.after_commit(),
    ):
        with pytest.raises(StoreClosed, match="the transaction has ended"):
            use()
    with pytest.raises(StoreClosed), tx.batch() as batch:
        batch.one(COUNT)


def test_isolation_levels_hold_for_one_transaction_only(database_url: str) -> None:
    with Store.open(database_url, pool_size=1) as store:
        for asked, level in (
            (None, "read committed"),
            ("serializable", "serializable"),
            (None, "read committed"),
            ("repeatable read", "repeatable read"),
            ("read committed", "read committed"),
        ):
            with store.transaction(isolation=asked) as tx:
                assert tx.one(LEVEL) == level
        with store.batch() as batch:
            inside = batch.one(LEVEL)
        assert inside.value == "read committed"

        def fail() -> None:
            with store.transaction(isolation="serializable") as tx:
                tx.one(DIVIDE, by=0)

        with pytest.raises(InvalidInput):
            fail()
        assert store.one(LEVEL) == "read committed"
        with store.batch() as batch:
            inside = batch.one(LEVEL)
        assert inside.value == "read committed"


@pytest.mark.parametrize("isolation", ["dirty", "", "SERIALIZABLE", [], 7])
def test_unknown_isolation(items: Store, isolation: Any) -> None:
    with pytest.raises(InvalidInput) as caught, items.transaction(isolation=isolation):
        raise AssertionError("never entered")
    assert caught.value.field == "isolation"
    assert items._pool.in_use() == 0


# Trying again


def test_transact_returns_what_the_work_returns(items: Store) -> None:
    assert items.transact(lambda tx: tx.one(ADD, id=1, name="a").id) == 1
    assert names(items) == ["a"]


def test_transact_does_not_repeat_what_a_retry_cannot_help(items: Store) -> None:
    calls: list[int] = []

    def work(tx: Transaction) -> None:
        calls.append(1)
        tx.one(GET, id=1)

    with pytest.raises(NotFound):
        items.transact(work)
    assert len(calls) == 1


def test_transact_repeats_serialization_failures(items: Store) -> None:
    items.one(ADD, id=1, name="0")
    attempts: list[int] = []

    def work(tx: Transaction) -> None:
        attempts.append(1)
        number = int(tx.one(GET, id=1).name)
        tx.run(SET, id=1, name=str(number + 1))

    def many() -> None:
        for _ in range(20):
            items.transact(work, isolation="repeatable read", deadline=30)

    threads = [in_thread(many) for _ in range(4)]
    for thread in threads:
        thread.join()
    assert names(items) == ["80"]
    assert len(attempts) > 80, "there was something to repeat"


def test_transact_gives_up_at_its_deadline(items: Store) -> None:
    attempts: list[int] = []

    def work(tx: Transaction) -> None:
        attempts.append(1)
        tx.run(statement("DO $$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = '40001'; END $$"))

    with pytest.raises(Conflict) as caught:
        items.transact(work, deadline=0)
    assert caught.value.retryable
    assert len(attempts) == 1
    with pytest.raises(Conflict):
        items.transact(work, deadline=0.2)
    assert len(attempts) > 2


@pytest.mark.parametrize("deadline", ["x", float("nan"), [], True])
def test_a_deadline_that_is_no_time(items: Store, deadline: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        items.transact(lambda tx: None, deadline=deadline)
    assert caught.value.field == "deadline"


def test_a_statement_by_itself_is_repeated_after_a_serialization_failure(database_url: str) -> None:
    make_items(database_url)
    with Store.open(database_url, pool_size=4, retry_deadline=30) as items:
        items.one(ADD, id=1, name="0")
        # What makes autocommit statements fail so.
        url = make_conninfo(database_url, options="-c default_transaction_isolation=repeatable\\ read")
        with Store.open(url, pool_size=4, retry_deadline=30) as strict:
            count_up = statement("UPDATE items SET name = (name::bigint + 1)::text WHERE id = 1")
            seen: list[str] = []

            def observer(name: str, action: Any) -> Any:
                seen.append(name)
                return action()

            strict.observe(observer)

            def many() -> None:
                for number in range(30):
                    if number % 2:
                        strict.run(count_up)
                    else:
                        with strict.batch() as batch:
                            batch.run(count_up)

            threads = [in_thread(many) for _ in range(4)]
            for thread in threads:
                thread.join()
            assert names(items) == ["120"]
            assert len(seen) > 120, "there was something to repeat"


def test_transact_repeats_deadlocks(items: Store) -> None:
    items.run(ADD_MANY, count=2)
    barrier = threading.Barrier(2, timeout=10)
    attempts: list[int] = []

    def work(first: int, second: int) -> Any:
        met = False

        def run(tx: Transaction) -> None:
            nonlocal met
            attempts.append(first)
            tx.run(SET, id=first, name=f"{first} of {first}")
            if not met:
                met = True
                barrier.wait()
            tx.run(SET, id=second, name=f"{second} of {first}")

        return run

    threads = [
        in_thread(lambda: items.transact(work(1, 2), deadline=20)),
        in_thread(lambda: items.transact(work(2, 1), deadline=20)),
    ]
    for thread in threads:
        thread.join()
    assert len(attempts) == 3, "the one that lost ran twice"
    assert names(items) in (["1 of 1", "2 of 1"], ["1 of 2", "2 of 2"])


def test_a_deadlock_without_transact_is_a_retryable_conflict(items: Store) -> None:
    items.run(ADD_MANY, count=2)
    barrier = threading.Barrier(2, timeout=10)
    errors: list[RootStreamError] = []

    def work(first: int, second: int) -> None:
        try:
            with items.transaction() as tx:
                tx.run(SET, id=first, name=f"{first}")
                barrier.wait()
                tx.run(SET, id=second, name=f"{second} of {first}")
        except RootStreamError as error:
            errors.append(error)

    threads = [in_thread(lambda: work(1, 2)), in_thread(lambda: work(2, 1))]
    for thread in threads:
        thread.join()
    assert [(type(error), error.retryable, error.sqlstate) for error in errors] == [(Conflict, True, "40P01")]
    assert "Process" not in str(errors[0]), "whose statement it was is in DETAIL"


def test_consecutive_transactions_of_one_thread_use_one_connection(items: Store) -> None:
    backends = set()
    for _ in range(10):
        with items.transaction() as tx:
            backends.add(tx.one(BACKEND))
    assert len(backends) == 1
