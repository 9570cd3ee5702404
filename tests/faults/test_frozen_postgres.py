"""A PostgreSQL that is frozen while its kernel still acknowledges: every call is freed by this side."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from rootstream_store.database import _deadline, run_raw
from rootstream_store.embedded import EmbeddedServers
from rootstream_store.errors import RootStreamError, Timeout, Unavailable
from rootstream_store.store import Store
from rootstream_store.transaction import Transaction

from ..statements import (
    ADD,
    BACKEND,
    COPY,
    COUNT,
    NUMBERS,
    SLEEP,
    Item,
    make_items,
    statement,
)
from ..test_pool import everything_is_there
from ..waiting import cancel, in_thread, until
from .freezing import frozen

GAVE_UP = r"the server did not answer within 1 s, and this side gave up"


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServers]:
    """A server that a test may freeze."""
    with EmbeddedServers.start(redis=False, durable=False) as servers:
        yield servers


@pytest.fixture
def url(server: EmbeddedServers) -> str:
    with psycopg.connect(server.database_url, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS items")
    make_items(server.database_url)
    return server.database_url


def open_store(url: str, **settings: Any) -> Store:
    # No look at an idle connection, which would find the frozen one out before it is used.
    wanted = {"pool_size": 1, "pool_check_after": 60.0, "statement_timeout": 0.0, "answer_timeout": 1.0}
    return Store.open(url, **{**wanted, **settings})


@pytest.fixture(params=[False, True], ids=["direct", "pgbouncer"])
def items(request: pytest.FixtureRequest, url: str) -> Iterator[Store]:
    """A store with one connection, on which everything has been done once."""
    with open_store(url, pgbouncer=request.param) as store:
        store.one(ADD, id=1, name="first")
        with store.transaction() as tx:
            assert tx.one(COUNT) == 1
        yield store
        assert store.one(COUNT) >= 1, "and the store goes on, on another connection"
        everything_is_there(store._pool)


def test_a_read(items: Store) -> None:
    attempts: list[str] = []

    def observer(name: str, action: Callable[[], object]) -> object:
        attempts.append(name)
        return action()

    pid = items.one(BACKEND)
    items.observe(observer)
    with frozen(pid):
        with pytest.raises(Timeout, match=GAVE_UP) as caught:
            items.one(COUNT)
        assert items.one(BACKEND) != pid
    assert caught.value.retryable
    assert caught.value.query == "sql/items/count.sql"
    assert attempts == ["items/count", "items/backend"], "no call waits twice by itself"


def test_a_write(items: Store) -> None:
    with frozen(items.one(BACKEND)), pytest.raises(Unavailable, match=GAVE_UP) as caught:
        items.one(ADD, id=2, name="b")
    assert caught.value.outcome_unknown
    assert not caught.value.retryable


def test_a_statement_that_was_running_already(items: Store) -> None:
    pid = items.one(BACKEND)
    errors: list[RootStreamError] = []

    def work() -> None:
        try:
            items.run(SLEEP, seconds=30.0)
        except RootStreamError as error:
            errors.append(error)

    thread = in_thread(work)
    until(lambda: items._pool.in_use() == 1, "it has begun")
    with frozen(pid):
        thread.join(20)
    assert [type(error) for error in errors] == [Timeout]


def test_a_begin(items: Store) -> None:
    def work() -> None:
        with items.transaction() as tx:
            tx.one(COUNT)

    with frozen(items.one(BACKEND)), pytest.raises(Timeout, match=GAVE_UP):
        work()


def add_frozen(tx: Transaction) -> None:
    tx.one(ADD, id=2, name="b")


def read_frozen(tx: Transaction) -> None:
    tx.one(COUNT)


def savepoint_frozen(tx: Transaction) -> None:
    with tx.transaction():
        pass


def batch_frozen(tx: Transaction) -> None:
    with tx.batch() as batch:
        batch.one(ADD, id=2, name="b")


@pytest.mark.parametrize("step", [add_frozen, read_frozen, savepoint_frozen, batch_frozen])
def test_within_a_transaction_nothing_is_applied(items: Store, step: Callable[[Transaction], None]) -> None:
    def work() -> None:
        with contextlib.ExitStack() as stack, items.transaction() as tx:
            tx.one(ADD, id=7, name="g")
            stack.enter_context(frozen(tx.one(BACKEND)))
            step(tx)

    with pytest.raises(Timeout, match=GAVE_UP) as caught:
        work()
    assert caught.value.retryable
    assert items.one(COUNT) == 1


def test_a_commit(items: Store) -> None:
    with contextlib.ExitStack() as stack:

        def work() -> None:
            with items.transaction() as tx:
                tx.one(ADD, id=2, name="b")
                stack.enter_context(frozen(tx.one(BACKEND)))

        with pytest.raises(Unavailable, match=GAVE_UP) as caught:
            work()
    assert caught.value.outcome_unknown


def test_a_rollback_raises_what_the_block_raised(items: Store) -> None:
    with contextlib.ExitStack() as stack:

        def work() -> None:
            with items.transaction() as tx:
                tx.one(ADD, id=2, name="b")
                stack.enter_context(frozen(tx.one(BACKEND)))
                raise KeyError("mine")

        with pytest.raises(KeyError, match="mine"):
            work()
    assert items.one(COUNT) == 1


def test_transact_does_not_wait_twice_either(items: Store) -> None:
    attempts: list[int] = []

    def work(tx: Transaction) -> None:
        attempts.append(1)
        with frozen(tx.one(BACKEND)):
            tx.one(COUNT)

    with pytest.raises(Timeout):
        items.transact(work)
    assert attempts == [1]


def test_a_batch_of_reads(items: Store) -> None:
    def work() -> None:
        with items.batch() as batch:
            batch.one(COUNT)
            batch.one(BACKEND)

    with frozen(items.one(BACKEND)), pytest.raises(Timeout, match=GAVE_UP) as caught:
        work()
    assert caught.value.retryable


def test_a_batch_of_writes(items: Store) -> None:
    def work() -> None:
        with items.batch() as batch:
            for number in range(2, 50):
                batch.one(ADD, id=number, name=str(number))

    with frozen(items.one(BACKEND)), pytest.raises(Unavailable, match=GAVE_UP) as caught:
        work()
    assert caught.value.outcome_unknown


def test_a_stream(items: Store) -> None:
    read: list[int] = []
    # The backend of the transaction, told with the rows.
    mixed = statement(
        "SELECT pg_backend_pid() AS n FROM generate_series(1, %(count)s::bigint)", int, "items/mixed"
    )

    def work() -> None:
        with contextlib.ExitStack() as stack, items.stream(mixed, size=10, count=1000) as rows:
            for row in rows:
                read.append(row)
                if len(read) == 10:
                    stack.enter_context(frozen(row))

    with pytest.raises(Timeout, match=GAVE_UP) as caught:
        work()
    assert len(read) == 10
    assert caught.value.query == "sql/items/mixed.sql"


def test_a_copy_that_stalls(items: Store) -> None:
    pid = items.one(BACKEND)
    with contextlib.ExitStack() as stack:

        def rows() -> Iterator[tuple[int, str]]:
            for number in range(2, 1_000_000):
                if number == 1000:
                    stack.enter_context(frozen(pid))
                yield number, str(number).rjust(100, "x")

        with pytest.raises(Unavailable, match=GAVE_UP) as caught:
            items.copy(COPY, rows(), ("bigint", "text"))
    assert caught.value.outcome_unknown
    assert items.one(COUNT) == 1


def test_the_end_of_a_copy(items: Store) -> None:
    pid = items.one(BACKEND)
    with contextlib.ExitStack() as stack:

        def rows() -> Iterator[tuple[int, str]]:
            yield 2, "b"
            stack.enter_context(frozen(pid))

        with pytest.raises(Unavailable, match=GAVE_UP) as caught:
            items.copy(COPY, rows(), ("bigint", "text"))
    assert caught.value.outcome_unknown


def test_a_copy_may_take_its_time(items: Store) -> None:
    def rows() -> Iterator[tuple[int, str]]:
        for number in range(2, 5):
            time.sleep(0.5)  # all together longer than the limit
            yield number, str(number)

    assert items.copy(COPY, rows(), ("bigint", "text")) == 3


def test_a_stream_may_take_its_time(items: Store) -> None:
    with items.stream(NUMBERS, size=1, count=4) as numbers:
        for _ in numbers:
            time.sleep(0.4)


def test_an_idle_connection_that_is_frozen_costs_no_error(url: str) -> None:
    with open_store(url, pool_check_after=0.0, connect_timeout=1, answer_timeout=60.0) as store:
        pid = store.one(BACKEND)
        with frozen(pid):
            assert store.one(BACKEND) != pid
            assert store.one(ADD, id=1, name="a") == Item(id=1, name="a")
        everything_is_there(store._pool)


def test_a_script_of_the_callers_own(url: str) -> None:
    with open_store(url) as store:
        connection = store._pool.acquire()
        try:
            with frozen(connection.info.backend_pid), pytest.raises(Unavailable, match=GAVE_UP) as caught:
                run_raw(connection, "SELECT 1;", None)
        finally:
            store._pool.release(connection)
        assert caught.value.outcome_unknown


def test_what_is_waited_for_by_default(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """statement_timeout and a little: the server's own error would come first."""
    monkeypatch.setattr(_deadline, "GRACE", 0.5)
    with open_store(url, statement_timeout=0.5, answer_timeout=None) as store:
        with frozen(store.one(BACKEND)), pytest.raises(Timeout, match=GAVE_UP) as caught:
            store.one(COUNT)
        assert caught.value.sqlstate is None


def test_many_threads_on_frozen_backends(url: str) -> None:
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            store.one(ADD, id=number, name=str(number)) if number % 2 else store.one(COUNT)
        except RootStreamError as error:
            errors.append(error)

    with open_store(url, pool_size=4, pool_min_size=4, pool_timeout=20) as store:
        taken = [store._pool.acquire() for _ in range(4)]
        pids = [connection.info.backend_pid for connection in taken]
        for connection in taken:
            store._pool.release(connection)
        with frozen(*pids):
            threads = [in_thread(lambda n=n: work(n)) for n in range(12)]  # type: ignore[misc]  # mypy cannot infer the lambda
            for thread in threads:
                thread.join(30)
                assert not thread.is_alive()
            assert len(errors) == 4, "as many as there were frozen connections"
            assert {type(error) for error in errors} <= {Timeout, Unavailable}
            assert set(pids).isdisjoint(store.one(BACKEND) for _ in range(4)), "while they are frozen still"
        everything_is_there(store._pool)


def test_a_whole_server_that_is_frozen_and_goes_on(url: str, server: EmbeddedServers) -> None:
    """New connections are not answered either."""
    with psycopg.connect(url) as connection:
        data = connection.execute("SELECT current_setting('data_directory')").fetchone()
    assert data is not None
    postmaster = int(Path(data[0], "postmaster.pid").read_text().split()[0])
    with open_store(url, pool_size=2, connect_timeout=1, pool_timeout=2, retry_deadline=0) as store:
        pid = store.one(BACKEND)
        with frozen(postmaster, pid):
            with pytest.raises(Timeout, match=GAVE_UP):
                store.one(COUNT)
            for _ in range(2):
                with pytest.raises((Timeout, Unavailable)):
                    store.one(COUNT)
        until(lambda: works(store), "the store works again without being opened anew")
        until(lambda: store._pool.stats()["pool_available"] > 0, "the pool is at rest")


def works(store: Store) -> bool:
    try:
        store.one(COUNT)
    except (Timeout, Unavailable):
        return False
    return True


def test_close_while_calls_are_frozen(url: str) -> None:
    errors: list[RootStreamError] = []

    def work() -> None:
        try:
            store.one(COUNT)
        except RootStreamError as error:
            errors.append(error)

    store = open_store(url, answer_timeout=5.0)
    pid = store.one(BACKEND)
    with frozen(pid):
        thread = in_thread(work)
        until(lambda: store._pool.in_use() == 1, "the call is under way")
        started = time.monotonic()
        store.close()
        assert time.monotonic() - started < 4, "it does not wait for the call"
        thread.join(20)
        assert not thread.is_alive()
    assert [type(error) for error in errors] == [Timeout]


# Python 3.12 warns of fork wherever a thread runs, as under xdist.
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_gives_up_too(url: str) -> None:
    with open_store(url) as store:
        store.one(COUNT)
        child = os.fork()
        if child == 0:
            try:
                with open_store(url) as own:
                    pid = own.one(BACKEND)
                    with frozen(pid):
                        own.one(COUNT)
            except Timeout:
                os._exit(17)
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 17
        assert store.one(COUNT) == 0, "and the parent has its connections still"


def test_a_cancelled_thread(url: str) -> None:
    with open_store(url) as store:
        with frozen(store.one(BACKEND)):
            thread = in_thread(lambda: store.one(COUNT))
            until(lambda: store._pool.in_use() == 1, "the call is under way")
            assert cancel(thread)
            thread.join(20)
            assert not thread.is_alive()
        everything_is_there(store._pool)


INTERRUPTED = """
import sys
from rootstream_store.queries import Query
from rootstream_store.store import Store

with Store.open(sys.argv[1], pool_size=1) as store:
    print(store.one(Query("a/backend", "SELECT pg_backend_pid()", int)), flush=True)
    try:
        store.run(Query("a/sleep", "SELECT pg_sleep(60)", None))
    except KeyboardInterrupt:
        print("interrupted", store.one(Query("a/one", "SELECT 1", int)), flush=True)
"""


@pytest.mark.parametrize("freezes", [False, True], ids=["running", "frozen"])
def test_ctrl_c(url: str, freezes: bool) -> None:
    active = "SELECT state = 'active' FROM pg_stat_activity WHERE pid = %s AND query LIKE '%%pg_sleep%%'"
    program = [sys.executable, "-c", INTERRUPTED, url]
    with (
        psycopg.connect(url, autocommit=True) as admin,
        subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process,
    ):
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        until(lambda: admin.execute(active, [pid]).fetchone() == (True,), "it sleeps")
        with frozen(pid) if freezes else contextlib.nullcontext():
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline() == "interrupted 1\n"
            assert process.wait(20) == 0
