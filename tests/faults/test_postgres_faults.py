"""Lost connections, lost answers and servers that are gone: no hang, no lost write, and no write done
twice."""

from __future__ import annotations

import contextlib
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from rootstream_store.cache import Invalidate, SetValue
from rootstream_store.db import CachedQuery
from rootstream_store.embedded import EmbeddedServers
from rootstream_store.errors import RootStreamError, Unavailable
from rootstream_store.queries import Query
from rootstream_store.store import Store
from rootstream_store.transaction import Transaction

from ..statements import (
    ADD,
    ADD_MANY,
    BACKEND,
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
from ..waiting import in_thread, until
from .proxy import Proxy

Connection = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture
def admin(database_url: str) -> Iterator[Connection]:
    """A connection of the test's own, past the proxy."""
    make_items(database_url)
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def proxy(database_url: str) -> Iterator[Proxy]:
    with Proxy(database_url) as proxy:
        yield proxy


@pytest.fixture
def items(proxy: Proxy, admin: Connection, redis_url: str) -> Iterator[Store]:
    """A store behind the proxy, with room for one connection."""
    with Store.open(proxy.database_url, redis_url, pool_size=1, pool_timeout=2, retry_deadline=3) as store:
        yield store
        until(lambda: store._pool.in_use() == 0, "pool at rest")


def terminate(admin: Connection, pid: int) -> None:
    assert admin.execute("SELECT pg_terminate_backend(%s, 5000)", [pid]).fetchone() == (True,)


def count(admin: Connection) -> int:
    row = admin.execute("SELECT count(*) FROM items").fetchone()
    assert row is not None
    return int(row[0])


def outcome(work: Callable[[], object]) -> tuple[threading.Thread, list[RootStreamError]]:
    """Runs `work` in a thread; the list gets its error."""
    errors: list[RootStreamError] = []

    def run() -> None:
        try:
            work()
        except RootStreamError as error:
            errors.append(error)

    return in_thread(run), errors


# The connection is lost while it lies in the pool


@pytest.mark.parametrize("query", [BACKEND, COUNT], ids=["read", "another read"])
def test_a_read_after_the_idle_connection_was_terminated(
    items: Store, admin: Connection, query: Query[Any]
) -> None:
    pid = items.one(BACKEND)
    terminate(admin, pid)
    items.one(query)
    assert items.one(BACKEND) != pid


def test_a_write_after_the_idle_connection_was_terminated_is_done_once(
    items: Store, admin: Connection
) -> None:
    terminate(admin, items.one(BACKEND))
    assert items.one(ADD, id=1, name="a") == Item(id=1, name="a")
    assert count(admin) == 1


def test_a_transaction_after_the_idle_connection_was_terminated(items: Store, admin: Connection) -> None:
    terminate(admin, items.one(BACKEND))
    with items.transaction() as tx:
        tx.one(ADD, id=1, name="a")
    terminate(admin, items.one(BACKEND))
    with items.batch() as batch:
        answer = batch.one(COUNT)
    assert answer.value == 1
    terminate(admin, items.one(BACKEND))
    with items.stream(NUMBERS, count=3) as numbers:
        assert list(numbers) == [1, 2, 3]


def test_reads_after_the_connection_was_reset(items: Store, proxy: Proxy) -> None:
    for _ in range(5):
        pid = items.one(BACKEND)
        proxy.sever()
        assert items.one(BACKEND) != pid


def test_nothing_is_tried_again_when_told_so(proxy: Proxy, admin: Connection) -> None:
    with Store.open(proxy.database_url, pool_size=1, retry_deadline=0) as store:
        terminate(admin, store.one(BACKEND))
        with pytest.raises(Unavailable) as caught:
            store.one(COUNT)
        assert caught.value.retryable
        assert store.one(COUNT) == 0


# In the middle


def test_a_transaction_that_loses_its_connection_applies_nothing(items: Store, admin: Connection) -> None:
    def work() -> None:
        with items.transaction() as tx:
            tx.after_commit(SetValue("effect", "1", 10))
            tx.one(ADD, id=1, name="a")
            terminate(admin, tx.one(BACKEND))
            tx.one(ADD, id=2, name="b")

    with pytest.raises(Unavailable) as caught:
        work()
    assert caught.value.retryable
    assert not caught.value.outcome_unknown
    assert count(admin) == 0
    assert items.redis.get("effect") is None
    assert items.one(COUNT) == 0, "and the store goes on"


def test_a_lost_connection_that_the_block_did_not_notice(items: Store, admin: Connection) -> None:
    def work() -> None:
        with items.transaction() as tx:
            tx.after_commit(SetValue("effect", "1", 10))
            tx.one(ADD, id=1, name="a")
            terminate(admin, tx.one(BACKEND))
            with pytest.raises(Unavailable):
                tx.one(COUNT)

    with pytest.raises(Unavailable) as caught:
        work()
    assert not caught.value.outcome_unknown
    assert count(admin) == 0
    assert items.redis.get("effect") is None


def test_transact_does_the_whole_work_again(items: Store, admin: Connection) -> None:
    attempts: list[int] = []

    def work(tx: Transaction) -> int:
        attempts.append(1)
        tx.one(ADD, id=1, name="a")
        if len(attempts) < 3:
            terminate(admin, tx.one(BACKEND))
        tx.one(ADD, id=2, name="b")
        return len(attempts)

    assert items.transact(work) == 3
    assert count(admin) == 2


def test_a_read_that_loses_its_connection_half_way_is_repeated(items: Store, admin: Connection) -> None:
    slow = statement("SELECT count(*) FROM items, pg_sleep(0.3)", int)
    pid = items.one(BACKEND)
    thread, errors = outcome(lambda: items.one(slow))
    until(lambda: is_active(admin, pid), "the read has begun")
    terminate(admin, pid)
    thread.join(10)
    assert errors == []


def is_active(admin: Connection, pid: int) -> bool:
    return admin.execute(
        "SELECT state = 'active' FROM pg_stat_activity WHERE pid = %s", [pid]
    ).fetchone() == (True,)


def test_severed_while_streaming(items: Store, proxy: Proxy) -> None:
    def work() -> None:
        with items.stream(NUMBERS, size=10, count=100_000) as numbers:
            for number in numbers:
                if number == 15:
                    proxy.sever()

    with pytest.raises(Unavailable) as caught:
        work()
    assert caught.value.retryable
    assert caught.value.query == "sql/items/numbers.sql"
    assert items.one(BACKEND)


# The answer is lost


def test_a_write_whose_answer_was_lost_is_not_repeated(items: Store, proxy: Proxy, admin: Connection) -> None:
    items.run(ADD_MANY, count=0)  # prepared: no answer is waited for in between
    proxy.hold_answers()
    thread, errors = outcome(lambda: items.run(ADD_MANY, count=1))
    until(lambda: count(admin) == 1, "the write was done")
    proxy.sever()
    thread.join(10)
    [error] = errors
    assert isinstance(error, Unavailable)
    assert error.outcome_unknown
    assert not error.retryable
    assert error.query == "sql/items/test.sql"
    assert count(admin) == 1
    assert items.one(COUNT) == 1


def test_a_write_that_did_not_arrive_is_not_repeated_either(
    items: Store, proxy: Proxy, admin: Connection
) -> None:
    pid = items.one(BACKEND)
    proxy.deaf()
    thread, errors = outcome(lambda: items.run(ADD_MANY, count=1))
    until(lambda: items._pool.in_use() == 1, "the write is under way")
    terminate(admin, pid)
    proxy._questions.set()
    proxy.sever()
    thread.join(10)
    [error] = errors
    assert isinstance(error, Unavailable)
    assert error.outcome_unknown, "nobody here can know"
    assert count(admin) == 0


def test_a_commit_whose_answer_was_lost(items: Store, proxy: Proxy, admin: Connection) -> None:
    cached = CachedQuery(GET, key="item:{id}".format, ttl=60)
    items.one(ADD, id=1, name="a")
    assert items.cached(cached, id=1) == Item(id=1, name="a")

    def work() -> None:
        with items.transaction() as tx:
            tx.run(SET, id=1, name="b")
            tx.after_commit(Invalidate("item:1"), SetValue("effect", "1", 10))
            proxy.hold_answers()

    thread, errors = outcome(work)
    until(lambda: admin.execute("SELECT name FROM items").fetchone() == ("b",), "the commit was done")
    proxy.sever()
    thread.join(10)
    [error] = errors
    assert isinstance(error, Unavailable)
    assert error.outcome_unknown
    assert not error.retryable
    assert items.redis.get("effect") is None, "no message of what may not have happened"
    assert items.cached(cached, id=1) == Item(id=1, name="b"), "nothing stale, whatever happened"


def test_a_batch_whose_answer_was_lost(items: Store, proxy: Proxy, admin: Connection) -> None:
    items.one(COUNT)
    proxy.hold_answers()

    def work() -> None:
        with items.batch() as batch:
            batch.one(ADD, id=1, name="a")
            batch.one(ADD, id=2, name="b")

    thread, errors = outcome(work)
    until(lambda: count(admin) == 2, "the batch was done")
    proxy.sever()
    thread.join(10)
    [error] = errors
    assert isinstance(error, Unavailable)
    assert error.outcome_unknown
    assert count(admin) == 2


def test_a_slow_network_is_no_fault(items: Store, proxy: Proxy) -> None:
    proxy.pause = 0.05
    assert items.one(COUNT) == 0
    with items.transaction() as tx:
        tx.one(ADD, id=1, name="a")
    assert items.one(COUNT) == 1


# The server is gone


def test_a_server_that_is_down_and_comes_back(proxy: Proxy, admin: Connection) -> None:
    with Store.open(proxy.database_url, pool_size=3, pool_timeout=5, retry_deadline=1) as store:
        store.one(COUNT)
        proxy.stop()
        for call in (
            lambda: store.one(COUNT),
            lambda: store.one(ADD, id=1, name="a"),
            lambda: store.transact(add),
        ):
            started = time.monotonic()
            with pytest.raises(Unavailable, match=r"127\.0\.0\.1|connection lost") as caught:
                call()
            assert time.monotonic() - started < 4
            del caught
        proxy.start()
        until(lambda: works(store), "the store works again without being opened anew", seconds=10)
        assert store.one(ADD, id=2, name="b").id == 2


def add(tx: Transaction) -> Item:
    item: Item = tx.one(ADD, id=3, name="c")
    return item


def works(store: Store) -> bool:
    try:
        store.one(COUNT)
    except Unavailable:
        return False
    return True


def test_a_short_outage_is_not_seen_by_reads(proxy: Proxy, admin: Connection) -> None:
    with Store.open(proxy.database_url, pool_size=2, pool_timeout=5, retry_deadline=10) as store:
        store.one(COUNT)
        proxy.stop()
        thread, errors = outcome(lambda: store.one(COUNT))
        until(lambda: store._pool._connects.since(0) is not None, "it was noticed")
        proxy.start()
        thread.join(10)
        assert not thread.is_alive()
        assert errors == []


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that the account of the server can reach, whichever that is."""
    with tempfile.TemporaryDirectory(prefix="rootstream-faults-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_a_restarted_server(place: Path) -> None:
    path = place / "data"
    servers = EmbeddedServers.start(path, redis=False, durable=False)
    try:
        make_items(servers.database_url)
        with (
            Proxy(servers.database_url) as proxy,
            Store.open(proxy.database_url, pool_size=4, pool_min_size=4, retry_deadline=10) as store,
        ):
            store.one(ADD, id=1, name="a")
            servers.stop()
            servers = EmbeddedServers.start(path, redis=False, durable=False)
            proxy.go_to(servers.database_url)
            for _ in range(10):
                assert store.one(COUNT) == 1
            store.one(ADD, id=2, name="b")
            assert store.one(COUNT) == 2
            assert store._pool.in_use() == 0
    finally:
        servers.stop()


def test_a_server_that_does_not_answer_at_open(proxy: Proxy) -> None:
    proxy.deaf()
    started = time.monotonic()
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1"):
        Store.open(proxy.database_url, connect_timeout=1)
    assert time.monotonic() - started < 5


def test_a_demoted_server_costs_its_connection_and_the_write_is_repeated(
    items: Store, admin: Connection
) -> None:
    pid = items.one(BACKEND)
    items.all(statement("SELECT set_config('default_transaction_read_only', 'on', FALSE)", str))
    assert items.one(ADD, id=1, name="a") == Item(id=1, name="a")
    assert items.one(BACKEND) != pid
    assert count(admin) == 1


def test_a_server_that_stays_read_only(database_url: str, admin: Connection) -> None:
    read_only = f"{database_url} options='-c default_transaction_read_only=on'"
    with Store.open(read_only, retry_deadline=0.3) as store:
        assert store.one(COUNT) == 0
        with pytest.raises(Unavailable, match="read-only") as caught:
            store.one(ADD, id=1, name="a")
        assert caught.value.retryable
        assert caught.value.sqlstate == "25006"
        assert store.one(COUNT) == 0


@pytest.mark.parametrize("several", [False, True], ids=["one host", "several hosts"])
def test_how_often_a_read_only_server_is_asked(database_url: str, admin: Connection, several: bool) -> None:
    attempts: list[str] = []

    def observer(name: str, action: Callable[[], object]) -> object:
        attempts.append(name)
        return action()

    def work(tx: Transaction) -> None:
        attempts.append("work")
        add(tx)

    options = "-c default_transaction_read_only=on"
    host = conninfo_to_dict(database_url)["host"]
    url = make_conninfo(database_url, host=f"{host},{host}" if several else host, options=options)
    with Store.open(url, retry_deadline=0.5) as store:
        store.observe(observer)
        with pytest.raises(Unavailable, match="read-only"):
            store.one(ADD, id=1, name="a")
        alone = len(attempts)
        store.observe(None)
        with pytest.raises(Unavailable, match="read-only"):
            store.transact(work)
        together = attempts.count("work")
    if several:
        assert min(alone, together) > 2
    else:
        assert (alone, together) == (2, 2)


def test_a_batch_that_is_cut_off_while_its_pipeline_is_busy(
    items: Store, proxy: Proxy, admin: Connection
) -> None:
    pid = items.one(BACKEND)

    def work() -> None:
        with items.batch() as batch:
            batch.one(ADD, id=1, name="a")
            batch.run(SLEEP, seconds=30.0)
            batch.one(DIVIDE, by=0)

    thread, errors = outcome(work)
    until(lambda: is_active(admin, pid), "the batch has begun")
    terminate(admin, pid)
    thread.join(10)
    assert not thread.is_alive()
    assert [type(error) for error in errors] == [Unavailable]
    assert count(admin) == 0


class _HoldsTheEnd(Proxy):
    """Keeps the end of a batch (the message Sync) from the server, which answers what came before it."""

    def __init__(self, database_url: str) -> None:
        self.armed = threading.Event()
        self.held = threading.Event()
        self.go_on = threading.Event()
        super().__init__(database_url)

    def _pass_on(self, source: socket.socket, to: socket.socket, gate: threading.Event) -> None:
        if gate is self._answers:
            super()._pass_on(source, to, gate)
            return
        with contextlib.suppress(OSError):
            begun = False
            with source.makefile("rb") as sent:
                # The first message, that of the login, has a length and no type.
                while head := sent.read(5 if begun else 4):
                    whole = head + sent.read(struct.unpack(">I", head[-4:])[0] - 4)
                    if begun and head[:1] == b"S" and self.armed.is_set():
                        self.armed.clear()
                        to.sendall(struct.pack(">ci", b"H", 4))  # Flush: answer now
                        self.held.set()
                        self.go_on.wait(20)
                    to.sendall(whole)
                    begun = True
        for end in (source, to):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def test_a_batch_whose_session_ends_right_after_its_commit(database_url: str, admin: Connection) -> None:
    def work() -> None:
        with store.batch() as batch:
            batch.one(ADD, id=1, name="a")

    with _HoldsTheEnd(database_url) as proxy:
        url = make_conninfo(proxy.database_url, sslmode="disable", gssencmode="disable")
        with Store.open(url, pool_size=1) as store:
            pid = store.one(BACKEND)
            proxy.armed.set()
            thread, errors = outcome(work)
            assert proxy.held.wait(10)
            until(lambda: count(admin) == 1, "the batch was done")
            terminate(admin, pid)
            proxy.go_on.set()
            thread.join(10)
            assert not thread.is_alive()
            [error] = errors
            assert isinstance(error, Unavailable)
            assert error.outcome_unknown
            assert not error.retryable
            assert store.one(COUNT) == 1
            assert store._pool.in_use() == 0


def test_many_threads_through_an_outage_lose_and_double_nothing(proxy: Proxy, admin: Connection) -> None:
    done: list[int] = []
    unknown: list[int] = []
    stop = threading.Event()

    def work(first: int) -> None:
        number = first
        while not stop.is_set():
            number += 1
            try:
                store.one(ADD, id=number, name=str(number))
                done.append(number)
            except Unavailable as error:
                if error.outcome_unknown:
                    unknown.append(number)

    with Store.open(proxy.database_url, pool_size=4, pool_timeout=2, retry_deadline=2) as store:
        threads = [in_thread(lambda first=n * 10**6: work(first)) for n in range(8)]  # type: ignore[misc]  # mypy cannot infer the lambda
        for _ in range(6):
            before = len(done)
            until(lambda before=before: len(done) > before + 30, "work goes on")  # type: ignore[misc]  # mypy cannot infer the lambda
            proxy.sever()
        stop.set()
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive()
        until(lambda: store._pool.in_use() == 0, "pool at rest")
    there = {row[0] for row in admin.execute("SELECT id FROM items").fetchall()}
    assert set(done) <= there, "what was told as done is there"
    assert there <= set(done) | set(unknown), "what is there was told as done or as unknown"
    assert len(done) == len(set(done))


def test_a_sleeping_statement_is_ended_with_its_connection(items: Store, admin: Connection) -> None:
    pid = items.one(BACKEND)
    thread, errors = outcome(lambda: items.transact(lambda tx: tx.run(SLEEP, seconds=30.0), deadline=0))
    until(lambda: is_active(admin, pid), "the statement has begun")
    terminate(admin, pid)
    thread.join(10)
    assert [(type(error), error.retryable) for error in errors] == [(Unavailable, True)]
