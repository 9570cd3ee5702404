"""Loops, processes and ends: where a store may be used, and what is left when it may not be any more."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import signal
import subprocess
import sys
import threading
import traceback
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from rootstream_store import AsyncStore, Store, users
from rootstream_store.errors import InvalidInput, NotFound, StoreClosed
from rootstream_store.queries import Query

from .. import waiting
from ..factories import make_user
from ..statements import ADD, COUNT, GET, NUMBERS, SLEEP, Item, make_items, statement
from .running import ECHO, SLOW_ECHO, open_store, run, until, working


@pytest.fixture
def admin(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    make_items(database_url)
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


def test_a_call_on_another_loop_is_refused_and_one_after_the_end_too(
    database_url: str, redis_url: str
) -> None:
    async def first() -> AsyncStore:
        store = await AsyncStore.open(database_url, redis_url)
        assert await store.one(ECHO, n=1) == 1
        return store

    store = run(first())

    async def second() -> None:
        with pytest.raises(InvalidInput, match="another event loop"):
            await store.one(ECHO, n=1)
        with pytest.raises(InvalidInput, match="another event loop"):
            async with store.transaction():
                pass
        await store.close()
        await store.close()

    run(second())

    async def after_the_end() -> None:
        async with AsyncStore.open(database_url, redis_url) as closed:
            assert await closed.one(ECHO, n=1) == 1
        calls: list[Any] = [
            closed.one(ECHO, n=1),
            users.get(closed, 1),
            users.authenticate(closed, login="ann", password="correct horse"),
            closed.health(),
            closed.transact(lambda tx: tx.one(ECHO, n=1)),
        ]
        for call in calls:
            with pytest.raises(StoreClosed):
                await call
        with pytest.raises(StoreClosed):
            async with closed.stream(NUMBERS, count=3):
                pass

    run(after_the_end())


def test_calls_that_wait_for_a_connection_are_refused_when_the_store_closes(database_url: str) -> None:
    async def main() -> None:
        store = await AsyncStore.open(database_url, pool_size=1)
        async with store.transaction():
            waits = [asyncio.create_task(store.one(ECHO, n=n)) for n in range(3)]
            await asyncio.sleep(0.05)
            await store.close()
            answers = await asyncio.gather(*waits, return_exceptions=True)
            assert all(isinstance(answer, StoreClosed) for answer in answers)

    run(main())


def test_a_transaction_that_is_open_when_the_store_closes_is_committed_as_without_asyncio(
    database_url: str, redis_url: str, admin: psycopg.Connection[Any]
) -> None:
    async def main() -> None:
        store = await AsyncStore.open(database_url, redis_url)
        user = await asyncio.to_thread(make_user, store.sync)
        assert (await users.get(store, user.id)).display_name is None
        async with store.transaction() as tx:
            await users.update_profile(tx, user.id, display_name="new")
            await store.close()
            await tx.run(ADD, id=1, name="one")
        async with open_store(database_url, redis_url) as other:
            assert (await users.get(other, user.id)).display_name == "new"
            assert await other.one(COUNT) == 1

    run(main())


def test_a_forked_child_is_refused_at_once(database_url: str, redis_url: str) -> None:
    async def main() -> None:
        async with open_store(database_url, redis_url) as store:
            user = await asyncio.to_thread(make_user, store.sync)
            assert (await users.get(store, user.id)).id == user.id
            child = os.fork()
            if child == 0:
                os._exit(_in_child(store))
            done = await asyncio.to_thread(os.waitpid, child, 0)
            assert os.waitstatus_to_exitcode(done[1]) == 0
            assert (await users.get(store, user.id)).id == user.id

    run(main())


def _in_child(store: AsyncStore) -> int:
    async def calls() -> int:
        refused = 0
        for call in (store.one(ECHO, n=1), users.get(store, 1)):
            try:
                await call
            except StoreClosed:
                refused += 1
        return refused

    signal.alarm(20)
    try:
        return 0 if asyncio.run(calls()) == 2 else 1
    except BaseException:  # noqa: BLE001  # nothing may leave the child
        traceback.print_exc()
        return 2


def test_a_call_that_is_not_awaited_does_nothing(database_url: str, admin: psycopg.Connection[Any]) -> None:
    async def main() -> None:
        async with open_store(database_url) as store:
            call = store.run(ADD, id=1, name="one")
            await store.one(ECHO, n=1)
            call.close()
            store.transaction()
            assert await store.one(COUNT) == 0

    run(main())


def test_what_a_task_has_set_is_seen_by_the_observer_also_in_threads(
    database_url: str, redis_url: str
) -> None:
    request = contextvars.ContextVar("request", default="none")
    seen: list[tuple[str, str]] = []

    def observer(name: str, work: Callable[[], Any]) -> Any:
        seen.append((request.get(), name))
        return work()

    async def one(store: AsyncStore, name: str, user: int) -> None:
        request.set(name)
        await users.get(store, user)  # read in a thread, on its way into the cache
        await store.one(ECHO, n=1)
        assert request.get() == name
        await store.run_sync(lambda _: request.set(f"{name} changed"))
        assert request.get() == f"{name} changed"

    async def main() -> None:
        async with open_store(database_url, redis_url) as store:
            made = await asyncio.to_thread(lambda: [make_user(store.sync) for _ in range(4)])
            await users.get(store, made[0].id)
            store.sync.observe(observer)
            tasks = [asyncio.create_task(one(store, f"r{n}", made[n].id)) for n in (1, 2, 3)]
            await asyncio.gather(*tasks)
            store.sync.observe(None)
        assert {name for name, query in seen if query == "users/get"} == {"r1", "r2", "r3"}
        assert {name for name, query in seen if query == "aio/echo"} == {"r1", "r2", "r3"}

    run(main())


def test_errors_keep_where_they_came_from_and_nothing_is_kept_alive(
    database_url: str, admin: psycopg.Connection[Any]
) -> None:
    class Record(Item, frozen=True, kw_only=True, weakref=True):
        pass

    get: Query[Record] = statement("SELECT id, name FROM items WHERE id = %(id)s::bigint", Record, "aio/rec")

    class Wrong(Exception):
        pass

    async def main() -> None:
        async with open_store(database_url, pool_size=2) as store:
            await store.run(ADD, id=1, name="one")
            with pytest.raises(NotFound) as caught:
                await store.one(GET, id=2)
            assert "in one" in "".join(traceback.format_tb(caught.value.__traceback__))
            gc.collect()
            gc.disable()
            try:
                record = weakref.ref(await store.one(get, id=1))
                assert record() is None

                def fail(_: Any) -> None:
                    raise Wrong

                try:
                    await store.run_sync(fail)
                except Wrong as error:
                    failure = weakref.ref(error)
                assert failure() is None, "a cycle"
                task = asyncio.create_task(store.run(SLEEP, seconds=60.0))
                await asyncio.sleep(0.05)
                task.cancel()
                try:
                    await task
                except asyncio.CancelledError as error:
                    cancelled = weakref.ref(error)
                del task
                await asyncio.sleep(0)
                assert cancelled() is None, "a cycle"
            finally:
                gc.enable()

    run(main())


def test_a_store_that_is_dropped_leaves_nothing_behind(database_url: str, redis_url: str) -> None:
    async def main() -> list[weakref.ref[Any]]:
        async with AsyncStore.open(database_url, redis_url, pool_size=2) as store:
            await asyncio.gather(*(store.one(ECHO, n=n) for n in range(20)))
            home = store.sync.home  # type: ignore[attr-defined]  # of a LoopStore
            return [weakref.ref(home), *map(weakref.ref, home._idle)]

    left = run(main())
    gc.collect()
    assert len(left) > 2
    assert [one for one in left if one() is not None] == []


def test_blocks_that_are_thrown_away_with_their_loop_are_rolled_back(
    database_url: str, redis_url: str, admin: psycopg.Connection[Any]
) -> None:
    """Nothing waits for a loop that is gone, and nothing complains but asyncio itself."""

    async def in_transaction(store: AsyncStore) -> None:
        async with store.transaction() as tx:
            await users.update_profile(tx, 1, display_name="never")
            async with tx.transaction():
                await asyncio.sleep(60)

    async def in_stream(store: AsyncStore) -> None:
        async with store.stream(NUMBERS, count=5000) as rows:
            async for _ in rows:
                await asyncio.sleep(60)

    loop = asyncio.new_event_loop()
    complaints: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context))

    async def begin() -> AsyncStore:
        store = await AsyncStore.open(database_url, redis_url, pool_size=3)
        user = await asyncio.to_thread(make_user, store.sync)
        assert (await users.get(store, 1)).id == user.id == 1
        tasks.extend(map(loop.create_task, (in_transaction(store), in_stream(store))))
        await until(lambda: len(working(admin)) == 2, "both to be at work")
        await asyncio.sleep(0.05)
        return store

    tasks: list[asyncio.Task[None]] = []
    store = loop.run_until_complete(begin())
    loop.close()
    tasks.clear()
    gc.collect()
    assert [context["message"] for context in complaints] == ["Task was destroyed but it is pending!"] * 2
    waiting.until(lambda: not working(admin), "the server to be at rest")
    # The store below is whole, and serves threads.
    waiting.until(lambda: store.sync._pool.in_use() == 0, "the pool to be at rest")
    assert store.sync.one(ECHO, n=3) == 3
    assert users.get(store.sync, 1).display_name is None
    store.sync.close()


def test_a_loop_that_ends_with_calls_under_way_hangs_nowhere(
    database_url: str, redis_url: str, admin: psycopg.Connection[Any]
) -> None:
    async def in_transaction(store: AsyncStore) -> None:
        async with store.transaction() as tx:
            await asyncio.gather(tx.run(SLEEP, seconds=60.0), tx.run(SLEEP, seconds=60.0))

    async def begin() -> AsyncStore:
        store = await AsyncStore.open(database_url, redis_url, pool_size=2)
        user = await asyncio.to_thread(make_user, store.sync)
        works: list[Any] = [
            in_transaction(store),
            store.transact(lambda tx: tx.run(SLEEP, seconds=60.0)),
            store.one(ECHO, n=1),  # waits for a place
            users.authenticate(store, login=user.username, password="wrong password"),
        ]
        tasks.extend(map(loop.create_task, works))
        await until(lambda: len(working(admin)) == 2, "both to be at work")
        return store

    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)
    tasks: list[asyncio.Task[Any]] = []
    store = loop.run_until_complete(begin())
    loop.close()
    tasks.clear()
    gc.collect()
    store.sync.close()
    gc.collect()
    admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )


def test_a_coroutine_that_is_closed_gives_up_its_connection(database_url: str) -> None:
    async def main() -> None:
        async with open_store(database_url, pool_size=1) as store:
            for _ in range(3):
                call = store.run(SLEEP, seconds=60.0)
                call.send(None)
                call.close()
                assert await store.one(ECHO, n=1) == 1

    run(main())


def test_a_generator_that_is_left_early_gives_its_connection_back(database_url: str) -> None:
    async def main() -> None:
        async with open_store(database_url, pool_size=1) as store:

            async def numbers() -> Any:
                async with store.stream(NUMBERS, count=5000, size=10) as rows:
                    async for row in rows:
                        yield row

            made = numbers()
            async for n in made:
                if n == 15:
                    break
            await made.aclose()
            pid = await store.one(ECHO, n=1)
            assert pid == 1

    run(main())


def test_one_loop_that_is_run_by_one_thread_after_another(database_url: str) -> None:
    loop = asyncio.new_event_loop()

    async def opened() -> AsyncStore:
        store = await AsyncStore.open(database_url, pool_size=1)
        assert await store.one(ECHO, n=1) == 1
        return store

    async def used(store: AsyncStore) -> None:
        assert await asyncio.gather(*(store.one(ECHO, n=n) for n in range(9))) == list(range(9))
        assert await store.one(SLOW_ECHO, n=1, seconds=0.01) == 1

    store = loop.run_until_complete(opened())
    errors: list[BaseException] = []

    def elsewhere() -> None:
        try:
            loop.run_until_complete(used(store))
        except BaseException as error:  # noqa: BLE001  # a thread's failure must fail the test
            errors.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join(20)
    assert errors == []
    loop.run_until_complete(used(store))
    loop.run_until_complete(store.close())
    loop.close()


PROGRAM = """
import asyncio, sys
from rootstream_store import AsyncStore, query
from tests.statements import ADD, SLEEP

async def main():
    async with AsyncStore.open(sys.argv[1], pool_size=2) as store:
        async with store.transaction() as tx:
            await tx.run(ADD, id=1, name="one")
            print("ready", flush=True)
            await tx.run(SLEEP, seconds=60.0)

try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_ends_a_program_and_its_statement(
    times: int, database_url: str, admin: psycopg.Connection[Any]
) -> None:
    program = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PROGRAM, database_url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert program.stdout is not None
    try:
        assert program.stdout.readline() == "ready\n"
        waiting.until(lambda: any("pg_sleep" in query for _, query in working(admin)), "the statement")
        for _ in range(times):
            program.send_signal(signal.SIGINT)
        out, err = program.communicate(timeout=30)
    finally:
        program.kill()
    assert out == "interrupted\n"
    if times == 1:
        assert err == ""
    assert "Exception ignored" not in err
    assert program.returncode == 0
    if times == 1:  # twice means at once, whatever the server does
        waiting.until(lambda: not working(admin), "the server to be at rest")
    row = admin.execute("SELECT count(*) FROM items").fetchone()
    assert row == (0,)


def test_debug_mode_of_asyncio_has_nothing_to_say(
    database_url: str, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        asyncio.get_running_loop().slow_callback_duration = 1.0
        async with open_store(database_url, redis_url) as store:
            user = await asyncio.to_thread(make_user, store.sync)
            await asyncio.gather(*(users.get(store, user.id) for _ in range(20)))
            async with store.transaction() as tx:
                await users.update_profile(tx, user.id, display_name="new")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await store.run(SLEEP, seconds=60.0)

    asyncio.run(main(), debug=True)
    assert [record for record in caplog.records if record.name == "asyncio" and record.levelno > 10] == []


def test_on_uvloop(database_url: str, redis_url: str) -> None:
    uvloop = pytest.importorskip("uvloop")

    async def main() -> None:
        async with open_store(database_url, redis_url) as store:
            assert await asyncio.gather(*(store.one(ECHO, n=n) for n in range(200))) == list(range(200))
            for _ in range(20):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.01):
                        await store.run(SLEEP, seconds=60.0)
            assert await store.one(ECHO, n=1) == 1

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def test_the_store_below_serves_threads_while_tasks_use_it(database_url: str, redis_url: str) -> None:
    def in_thread(store: Store, first: int) -> None:
        for n in range(first, first + 50):
            assert store.one(ECHO, n=n) == n

    async def in_task(store: AsyncStore, first: int) -> None:
        for n in range(first, first + 50):
            assert await store.one(ECHO, n=n) == n

    async def main() -> None:
        async with open_store(database_url, redis_url, pool_size=2, pool_timeout=30.0) as store:
            await asyncio.gather(
                *(asyncio.to_thread(in_thread, store.sync, n * 1000) for n in range(4)),
                *(in_task(store, n * 1000) for n in range(5, 15)),
            )

    run(main())
