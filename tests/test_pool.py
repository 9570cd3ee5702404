"""The pool: bounded waits, the most recently used connection first, and nothing lost whatever happens."""

from __future__ import annotations

import gc
import itertools
import time
from collections.abc import Iterator

import psycopg
import pytest

from rootstream_store.database import Connection, Pool
from rootstream_store.errors import (
    AlreadyExists,
    InvalidInput,
    NotFound,
    RootStreamError,
    StoreClosed,
    Timeout,
)
from rootstream_store.settings import Settings
from rootstream_store.store import Store

from .factories import make_user
from .statements import ADD, BACKEND, COUNT, DIVIDE, GET, NUMBERS, SLEEP, make_items
from .waiting import cancel, in_thread, leave_unraisable_errors_alone, until


@pytest.fixture
def pool(database_url: str) -> Iterator[Pool]:
    pool = Pool(Settings.create(database_url=database_url, pool_size=3, pool_timeout=0.3))
    yield pool
    pool.close()


def everything_is_there(pool: Pool) -> None:
    """All of the pool's connections can be had at once, each works, and the pool has no more of them."""
    until(lambda: pool.in_use() == 0, "pool at rest")
    size = pool.settings.pool_size
    taken = [pool.acquire(timeout=20) for _ in range(size)]
    try:
        assert pool.in_use() == size
        assert len({connection.info.backend_pid for connection in taken}) == size
        for connection in taken:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        assert pool.stats()["pool_size"] == size
        with pytest.raises(Timeout):
            pool.acquire(timeout=0.05)
    finally:
        for connection in taken:
            pool.release(connection)
    assert pool.in_use() == 0


def test_exhausted_pool(pool: Pool) -> None:
    taken = [pool.acquire() for _ in range(3)]
    started = time.monotonic()
    with pytest.raises(Timeout) as caught:
        pool.acquire()
    assert 0.29 < time.monotonic() - started < 1
    assert pool.name in str(caught.value)
    assert "3 of 3 in use" in str(caught.value)
    assert caught.value.retryable
    for connection in taken:
        pool.release(connection)
    everything_is_there(pool)


def test_a_longer_wait_than_one_slice(pool: Pool) -> None:
    taken = [pool.acquire() for _ in range(3)]
    started = time.monotonic()
    with pytest.raises(Timeout):
        pool.acquire(timeout=1.2)
    assert 1.19 < time.monotonic() - started < 2
    for connection in taken:
        pool.release(connection)


def test_who_waits_gets_the_connection_that_comes_back(pool: Pool) -> None:
    taken = [pool.acquire() for _ in range(3)]
    got: list[Connection] = []
    thread = in_thread(lambda: got.append(pool.acquire(timeout=10)))
    until(lambda: pool.stats().get("requests_waiting"), "the thread waits")
    pool.release(taken[0])
    thread.join(5)
    assert got == [taken[0]]
    for connection in taken:
        pool.release(connection)
    everything_is_there(pool)


def test_who_waits_longest_is_served_first(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = [pool.acquire() for _ in range(3)]
    served: list[str] = []

    def wait(name: str) -> None:
        connection = pool.acquire(timeout=20)
        served.append(name)
        pool.release(connection)

    def waits() -> int:
        return pool.stats().get("requests_queued", 0)

    before = waits()
    monkeypatch.setattr("rootstream_store.database._pool._WAIT_SLICE", 0.3)
    first = in_thread(lambda: wait("first"))
    until(lambda: waits() == before + 1, "the first waits")
    monkeypatch.setattr("rootstream_store.database._pool._WAIT_SLICE", 30)
    second = in_thread(lambda: wait("second"))
    until(lambda: waits() == before + 3, "both wait, and the first has asked again")
    pool.release(taken.pop())
    first.join(5)
    second.join(5)
    assert served == ["first", "second"]
    for connection in taken:
        pool.release(connection)
    everything_is_there(pool)


def test_no_caller_starves_while_others_are_served(database_url: str) -> None:
    # Each wait is longer than one slice, and far shorter than the limit.
    with Store.open(database_url, pool_size=1, pool_timeout=3) as store:
        errors: list[RootStreamError] = []

        def work() -> None:
            for _ in range(3):
                try:
                    store.run(SLEEP, seconds=0.12)
                except RootStreamError as error:
                    errors.append(error)

        threads = [in_thread(work) for _ in range(12)]
        for thread in threads:
            thread.join(30)
        assert errors == []
        everything_is_there(store._pool)


def test_the_most_recently_used_connection_comes_first(database_url: str) -> None:
    with Store.open(database_url, pool_size=4, pool_min_size=4) as store:
        first = store.one(BACKEND)
        assert {store.one(BACKEND) for _ in range(20)} == {first}
        with store.transaction() as tx:
            assert tx.one(BACKEND) == first
            second = store.one(BACKEND)
            assert second != first
        assert store.one(BACKEND) == first, "the last one back is the first one out"


def test_idle_connections_above_the_minimum_are_closed(database_url: str) -> None:
    settings = Settings.create(database_url=database_url, pool_size=4, pool_min_size=1, pool_max_idle=0.2)
    pool = Pool(settings)
    try:
        taken = [pool.acquire() for _ in range(4)]
        for connection in taken:
            pool.release(connection)
        assert pool.stats()["pool_size"] == 4
        until(lambda: pool.stats()["pool_size"] == 1, "the pool shrinks to its minimum")
        assert sum(connection.closed for connection in taken) == 3
        everything_is_there(pool)
    finally:
        pool.close()


def test_four_duplicate_sign_ups_and_more_leave_the_pool_at_rest(store: Store) -> None:
    make_user(store, username="ann")
    for _ in range(4 * store.settings.pool_size):
        with pytest.raises(AlreadyExists):
            make_user(store, username="Ann")
        with pytest.raises(NotFound):
            store.one(GET_USER, id=0)
    everything_is_there(store._pool)


GET_USER = GET.__class__("users/none", "SELECT id FROM users WHERE id = %(id)s::bigint", int)


def test_errors_of_every_verb_leave_the_pool_at_rest(database_url: str) -> None:
    make_items(database_url)
    with Store.open(database_url, pool_size=2, pool_timeout=1) as store:

        def stream() -> None:
            with store.stream(NUMBERS, count=10) as rows:
                next(rows)
                raise RuntimeError

        def batch() -> None:
            with store.batch() as sent:
                sent.one(DIVIDE, by=0)

        def transaction() -> None:
            with store.transaction() as tx:
                tx.one(DIVIDE, by=0)

        for _ in range(5):
            for fail in (stream, batch, transaction, lambda: store.one(DIVIDE, by=0)):
                with pytest.raises((InvalidInput, RuntimeError)):
                    fail()
        everything_is_there(store._pool)


def test_a_connection_given_back_inside_a_transaction_is_rolled_back(pool: Pool, database_url: str) -> None:
    make_items(database_url)
    connection = pool.acquire()
    connection.execute("BEGIN")
    connection.execute("INSERT INTO items VALUES (1, 'a')")
    pool.release(connection)
    again = pool.acquire()
    assert again is connection
    assert again.execute("SELECT count(*) FROM items").fetchone() == (0,)
    pool.release(again)


def test_a_torn_transaction_costs_its_connection_and_no_more(pool: Pool) -> None:
    connection = pool.acquire()
    connection.transaction().__enter__()
    connection.in_transaction = True
    pool.release(connection)
    assert connection.closed
    everything_is_there(pool)


def test_a_connection_is_given_back_by_its_own_pool_only(pool: Pool, database_url: str) -> None:
    other = Pool(Settings.create(database_url=database_url, pool_size=1))
    connection = other.acquire()
    with pytest.raises(ValueError, match="it comes from pool"):
        pool.release(connection)
    connection.handed_out = True
    other.release(connection)
    other.close()


def test_a_connection_given_back_twice_is_refused(pool: Pool) -> None:
    connection = pool.acquire()
    pool.release(connection)
    with pytest.raises(ValueError, match="doesn't come from any pool"):
        pool.release(connection)
    everything_is_there(pool)


@pytest.mark.parametrize("broken", [False, True])
def test_a_connection_that_nobody_gives_back_is_replaced(pool: Pool, broken: bool) -> None:
    taken = [pool.acquire() for _ in range(3)]
    if broken:
        taken[0].close()
    # What is left when a thread is cancelled right after it got a connection.
    taken.pop(0)
    gc.collect()
    for connection in taken:
        pool.release(connection)
    taken.clear()
    del connection
    everything_is_there(pool)


def test_a_connection_lost_on_its_way_out_is_replaced(pool: Pool) -> None:
    # psycopg_pool hands it to a waiter that was cancelled, and forgets it.
    lost = pool._pool.getconn()
    lost._pool = None
    del lost
    gc.collect()
    everything_is_there(pool)


def test_threads_that_are_cancelled_lose_nothing(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_unraisable_errors_alone(monkeypatch)
    make_items(database_url)
    numbers = itertools.count(1)
    with Store.open(database_url, pool_size=3, pool_timeout=10) as store:

        def in_a_transaction() -> None:
            with store.transaction() as tx, tx.transaction():
                number = next(numbers)
                tx.one(ADD, id=number, name=f"never there {number}")
                tx.run(SLEEP, seconds=5.0)

        def in_a_stream() -> None:
            with store.stream(SLEEPS, size=1) as rows:
                list(rows)

        def in_a_batch() -> None:
            with store.batch() as batch:
                batch.run(SLEEP, seconds=5.0)

        def alone() -> None:
            store.run(SLEEP, seconds=5.0)

        for work in (in_a_transaction, in_a_stream, in_a_batch, alone):
            threads = [in_thread(work) for _ in range(3)]
            until(lambda: asleep(database_url) == 3, "the statements have begun")
            # psycopg_pool itself cannot be interrupted safely at any point; here the threads wait for the
            # server.
            for thread in threads:
                assert cancel(thread)
            for thread in threads:
                thread.join(20)
                assert not thread.is_alive()
            gc.collect()
            everything_is_there(store._pool)
        assert store.one(COUNT) == 0


SLEEPS = GET.__class__("items/sleeps", "SELECT pg_sleep(2)::text FROM generate_series(1, 3)", str)


def asleep(database_url: str) -> int:
    with psycopg.connect(database_url) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND wait_event = 'PgSleep'"
        ).fetchone()
        assert row is not None
        return int(row[0])


def test_a_place_in_the_pool_that_was_lost_is_found_again(pool: Pool) -> None:
    # What is left of a thread cancelled in the midst of putconn: closed, and counted for ever.
    for _ in range(2):
        connection = pool._pool.getconn()
        connection.close()
        del connection
    gc.collect()
    everything_is_there(pool)


def test_a_pool_that_takes_itself_to_be_growing_grows(pool: Pool) -> None:
    # What is left of a thread cancelled between the two: psycopg_pool would never grow again.
    pool._pool._growing = True
    everything_is_there(pool)


def test_a_thread_cancelled_while_it_waits_for_a_connection(pool: Pool) -> None:
    taken = [pool.acquire() for _ in range(3)]
    threads = [in_thread(lambda: pool.release(pool.acquire(timeout=30))) for _ in range(3)]
    until(lambda: pool.stats().get("requests_waiting") == 3, "the threads wait")
    for thread in threads:
        cancel(thread)
    for connection in taken:
        pool.release(connection)
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    taken.clear()
    del connection
    gc.collect()
    everything_is_there(pool)


def test_timeouts_leave_the_pool_at_rest(database_url: str) -> None:
    # Not too short for a first connection on a busy machine.
    with Store.open(database_url, pool_size=2, pool_timeout=0.5, statement_timeout=0.5) as store:
        errors: list[RootStreamError] = []

        def work() -> None:
            for _ in range(4):
                try:
                    store.run(SLEEP, seconds=5.0)
                except RootStreamError as error:
                    errors.append(error)

        threads = [in_thread(work) for _ in range(4)]
        for thread in threads:
            thread.join()
        assert {type(error) for error in errors} == {Timeout}
        assert len(errors) == 16
        everything_is_there(store._pool)


def test_a_connection_that_was_idle_is_checked_before_it_is_handed_out(
    database_url: str, servers: object
) -> None:
    with Store.open(database_url, pool_size=1, pool_check_after=0, retry_deadline=0) as store:
        first = store.one(BACKEND)
        _terminate(database_url, first)
        assert store.one(BACKEND) != first, "no error, although nothing is tried again"


def test_eight_dead_connections_cost_no_eight_waits(database_url: str) -> None:
    settings = Settings.create(database_url=database_url, pool_size=8, pool_min_size=8, pool_check_after=0)
    pool = Pool(settings)
    try:
        taken = [pool.acquire() for _ in range(8)]
        pids = [connection.info.backend_pid for connection in taken]
        for connection in taken:
            pool.release(connection)
        _terminate(database_url, *pids)
        started = time.monotonic()
        pool.release(pool.acquire())
        assert time.monotonic() - started < 0.4
        everything_is_there(pool)
    finally:
        pool.close()


def _terminate(database_url: str, *pids: int) -> None:
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute("SELECT pg_terminate_backend(pid, 5000) FROM unnest(%s::int[]) AS pid", [list(pids)])


def test_a_closed_pool(pool: Pool) -> None:
    connection = pool.acquire()
    pool.close()
    with pytest.raises(StoreClosed, match=pool.name):
        pool.acquire()
    pool.release(connection)
    assert connection.closed
    assert pool.in_use() == 0


def test_the_pool_is_named_for_the_application(database_url: str) -> None:
    with (
        Store.open(database_url, application_name="evening show", pool_size=1, pool_timeout=0.05) as store,
        store.transaction(),
        pytest.raises(Timeout, match=r"pool 'evening show-\d+' exhausted.*1 of 1 in use"),
    ):
        store.one(BACKEND)


def test_a_server_that_has_no_more_connections(database_url: str) -> None:
    from psycopg.conninfo import conninfo_to_dict

    from rootstream_store.errors import Unavailable

    name = conninfo_to_dict(database_url)["dbname"]
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute("CREATE ROLE few LOGIN CONNECTION LIMIT 1")
        try:
            with Store.open(
                f"{database_url} user=few", pool_size=2, pool_timeout=0.3, retry_deadline=0
            ) as store:
                with store.transaction(), pytest.raises(Unavailable, match="too many connections") as caught:
                    store.one(BACKEND)
                assert caught.value.retryable
                assert str(name) in str(caught.value)
        finally:
            admin.execute("DROP ROLE few")
