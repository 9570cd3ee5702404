"""What becomes of a call whose task is cancelled: its statement ends, what is committed is told."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Coroutine, Iterator
from typing import Any

import psycopg
import pytest

from rootstream_store import AsyncStore, AsyncTransaction, live, streams, users
from rootstream_store.cache import keys
from rootstream_store.errors import AlreadyExists, Conflict, InvalidInput, StoreClosed, Timeout, Unavailable

from .. import waiting
from ..cache.conftest import NOTHING, cached
from ..faults.proxy import Proxy
from ..statements import ADD, BACKEND, COUNT, DIVIDE, GET, SLEEP, make_items
from .running import ECHO, at_wait, check_whole, open_store, run, until, working
from .works import make_scene


@pytest.fixture
def admin(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    make_items(database_url)
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


def test_a_task_that_is_cancelled_while_it_waits_for_a_connection_loses_no_place(database_url: str) -> None:
    async def main() -> None:
        async with open_store(database_url, pool_size=2) as store:
            pool: Any = store.sync._pool
            for _ in range(20):
                async with store.transaction(), store.transaction():
                    waiting = [asyncio.create_task(store.one(ECHO, n=n)) for n in range(30)]
                    await until(lambda: len(pool._callers) == 30, "thirty to wait")
                    for task in waiting[::2]:
                        task.cancel()
                # Those that were woken and cancelled in one and the same turn, too.
                waiting[1].cancel()
                answers = await asyncio.gather(*waiting, return_exceptions=True)
                for n, answer in enumerate(answers):
                    assert answer == n or (
                        (n == 1 or n % 2 == 0) and isinstance(answer, asyncio.CancelledError)
                    )
                await check_whole(store)

    run(main())


def test_cancelled_while_a_connection_is_made_or_checked(database_url: str) -> None:
    async def main() -> None:
        # Each call waits in a thread for the connection that the pool opens, or checks the one there is.
        async with open_store(database_url, pool_size=3, pool_check_after=0.0) as store:
            for _ in range(5):
                store.sync._pool._pool.resize(1, 3)
                calls = [store.one(ECHO, n=n) for n in range(3)]
                for wait in range(1, 4):
                    await asyncio.gather(
                        *(at_wait(store.one(ECHO, n=n), {wait: "while waiting"}) for n in range(6)),
                        *(at_wait(store.one(ECHO, n=n), {wait: "with the answer"}) for n in range(6)),
                    )
                assert await asyncio.gather(*calls) == [0, 1, 2]
                await check_whole(store)

    run(main())


def test_a_pool_that_is_exhausted_keeps_nothing_of_those_that_gave_up(database_url: str) -> None:
    async def main() -> None:
        async with (
            open_store(database_url, pool_size=1, pool_timeout=0.05) as store,
            store.transaction(),
        ):
            calls = [store.one(ECHO, n=n) for n in range(50)]
            tried = await asyncio.gather(*calls, return_exceptions=True)
            assert all(isinstance(error, Timeout) for error in tried)
            assert "1 of 1 in use" in str(tried[0])
            assert not store.sync._pool._callers  # type: ignore[attr-defined]  # of a LoopPool

    run(main())


STATEMENTS = (
    "SELECT query FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
    "AND state = 'active'"
)
SLOW_COMMIT = """
    CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN PERFORM pg_sleep(0.5); RETURN NULL; END $$;
    CREATE CONSTRAINT TRIGGER slow_commit AFTER INSERT ON items DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION slowly();
"""


@pytest.mark.parametrize("times", [1, 2])
def test_a_commit_whose_task_is_cancelled_is_made_and_told_to_others(
    times: int, database_url: str, redis_url: str, admin: psycopg.Connection[Any]
) -> None:
    admin.execute(SLOW_COMMIT)

    async def main() -> None:
        async with open_store(database_url, redis_url) as store:
            scene = await make_scene(store)
            user, stream_id = scene.users[0], scene.stream
            await users.get(store, user)
            cache = store.sync._cache
            assert cached(cache, keys.user(user)) is not NOTHING

            async def work() -> None:
                async with store.transaction() as tx:
                    await tx.run(ADD, id=1, name="one")
                    await users.update_profile(tx, user, display_name="new name")
                    await streams.stop(tx, stream_id)

            with live.subscribe(store.sync, "stream.*") as messages:
                task = asyncio.create_task(work())
                await until(lambda: ("COMMIT",) in admin.execute(STATEMENTS).fetchall(), "the commit")
                for _ in range(times):
                    task.cancel()
                    await asyncio.sleep(0)
                with pytest.raises(asyncio.CancelledError):
                    await task
                # At once, not by the sweep.
                assert cached(cache, keys.user(user)) is NOTHING
                assert (await users.get(store, user)).display_name == "new name"
                assert (await store.one(GET, id=1)).name == "one"
                received = await asyncio.to_thread(messages.get, 10)
                assert isinstance(received, live.Received)
                assert isinstance(received.message, live.StreamStopped)

    run(main())


def test_a_rollback_whose_task_is_cancelled_is_made(
    database_url: str, redis_url: str, admin: psycopg.Connection[Any]
) -> None:
    async def main() -> None:
        async with open_store(database_url, redis_url, pool_size=1) as store:
            pid: list[int] = []

            async def work() -> None:
                async with store.transaction() as tx:
                    pid.append(await tx.one(BACKEND))
                    await tx.run(ADD, id=1, name="one")
                    raise LookupError

            for wait in itertools.count(1):
                try:
                    ended, _ = await at_wait(work(), {wait: "while waiting", wait + 1: "while waiting"})
                except LookupError:
                    break
                assert not ended
                assert await store.one(COUNT) == 0
            assert wait > 3
            # Stopped rather than given up, so that the connection goes on.
            assert len(set(pid)) == 1

    run(main())


@pytest.mark.parametrize("in_transaction", [True, False])
def test_keys_are_removed_and_messages_sent_although_the_task_is_cancelled_meanwhile(
    in_transaction: bool, database_url: str, redis_url: str
) -> None:
    """All threads are busy when the removal after the commit begins, and the task is cancelled then."""

    async def main() -> None:
        async with open_store(database_url, redis_url, redis_pool_size=1, pool_size=2) as store:
            scene = await make_scene(store)
            user = scene.users[0]
            await users.get(store, user)
            cache: Any = store.sync._cache
            home = store.sync.home  # type: ignore[attr-defined]  # of a LoopStore
            free = threading.Event()
            removing = asyncio.Event()
            loop = asyncio.get_running_loop()
            end_write = cache.end_write

            def removal(names: Any) -> None:
                if names:
                    for _ in range(3):
                        home.in_thread(free.wait, 20)
                    loop.call_soon(removing.set)
                end_write(names)

            cache.end_write = removal

            async def work(db: Any) -> None:
                await users.update_profile(db, user, display_name="new name")
                await streams.stop(db, scene.stream)

            async def in_a_transaction() -> None:
                async with store.transaction() as tx:
                    await work(tx)

            with live.subscribe(store.sync, ["user.*", "stream.*"]) as messages:
                task = asyncio.create_task(in_a_transaction() if in_transaction else work(store))
                await removing.wait()
                task.cancel()
                await asyncio.sleep(0.01)
                task.cancel()
                await asyncio.sleep(0.01)
                assert not task.done()
                free.set()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert cached(cache, keys.user(user)) is NOTHING
                received = await asyncio.to_thread(messages.get, 10)
                assert isinstance(received, live.Received)
                assert isinstance(received.message, live.UserUpdated)
                assert await streams.is_live(store, scene.stream) is not in_transaction

    run(main())


def test_a_cancelled_call_on_redis_leaves_the_next_one_its_own_answer(
    database_url: str, redis_url: str
) -> None:
    async def main() -> None:
        async with open_store(database_url, redis_url, redis_pool_size=2) as store:
            scene = await make_scene(store)
            for stream_id in (1, 2, 3):
                await live.update_state(store, stream_id, {"own": stream_id})
            for turn in range(200):
                tasks = [asyncio.create_task(live.get_state(store, n)) for n in (1, 2, 3, 1, 2, 3)]
                for _ in range(turn % 7):
                    await asyncio.sleep(0)
                tasks[turn % 6].cancel()
                answers = await asyncio.gather(*tasks, return_exceptions=True)
                for n, state in zip((1, 2, 3, 1, 2, 3), answers, strict=True):
                    if not isinstance(state, asyncio.CancelledError):
                        assert isinstance(state, live.StateSnapshot), state
                        assert state.values == {"own": n}
            assert scene

    run(main())


@pytest.mark.parametrize("way", ["timeout", "wait_for", "group", "gather"])
def test_the_ways_in_which_tasks_are_cancelled(
    way: str, database_url: str, admin: psycopg.Connection[Any]
) -> None:
    async def main() -> None:
        async with open_store(database_url, pool_size=2) as store:
            sleeping = store.run(SLEEP, seconds=60.0)
            if way == "timeout":
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await sleeping
            elif way == "wait_for":
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(sleeping, 0.05)
            elif way == "group":
                with pytest.raises(ExceptionGroup) as caught:
                    await _group(sleeping, store.one(DIVIDE, by=0))
                assert isinstance(caught.value.exceptions[0], InvalidInput)
            else:
                both = asyncio.gather(sleeping, store.one(ECHO, n=1))
                await asyncio.sleep(0.05)
                both.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await both
            await until(lambda: not working(admin), "the statement to end")

    run(main())


async def _group(*calls: Coroutine[Any, Any, object]) -> None:
    async with asyncio.TaskGroup() as group:
        for call in calls:
            group.create_task(call)


def test_a_time_limit_within_a_transaction_leaves_it_to_be_rolled_back(
    database_url: str, admin: psycopg.Connection[Any]
) -> None:
    async def main() -> None:
        async with open_store(database_url, pool_size=1) as store:
            async with store.transaction() as tx:
                await tx.run(ADD, id=1, name="one")
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.05), tx.transaction() as inner:
                        await inner.run(SLEEP, seconds=60.0)
                assert (await tx.one(GET, id=1)).id == 1  # only what was inside is undone
            assert await store.one(COUNT) == 1
            with pytest.raises(Conflict):
                await _handle_a_time_limit(store)
            assert await store.one(COUNT) == 1
            # A batch that is cut off closes its connection rather than leave it in a pipeline.
            for wait in range(1, 12):
                async with asyncio.timeout(10):
                    try:
                        async with store.transaction() as tx:
                            await at_wait(_batch(tx), {wait: "while waiting"})
                            await tx.one(ECHO, n=1)
                    except (Conflict, Unavailable):
                        pass
                    except AlreadyExists:  # it was done before so many waits
                        assert wait > 1

    run(main())


async def _handle_a_time_limit(store: AsyncStore) -> None:
    async with store.transaction() as tx:
        await tx.run(ADD, id=2, name="two")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await tx.run(SLEEP, seconds=60.0)


async def _batch(tx: AsyncTransaction) -> None:
    async with tx.batch() as batch:
        batch.run(ADD, id=1, name="one")


def test_a_server_that_does_not_stop_a_cancelled_statement_costs_its_connection_and_two_seconds(
    database_url: str,
) -> None:
    async def main(proxy: Proxy) -> None:
        async with open_store(proxy.database_url, pool_size=1) as store:
            await store.one(ECHO, n=1)
            proxy.deaf()
            started = asyncio.get_running_loop().time()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await store.one(ECHO, n=2)
            assert asyncio.get_running_loop().time() - started < 10
            proxy.resume()
            proxy.sever()
            assert await store.one(ECHO, n=3) == 3

    with Proxy(database_url) as proxy:
        run(main(proxy))


def test_opening_that_is_cancelled_leaves_no_store_open(
    database_url: str, admin: psycopg.Connection[Any]
) -> None:
    name = "cancelled-opening"
    count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"

    def connected() -> int:
        row = admin.execute(count, [name]).fetchone()
        assert row is not None
        return int(row[0])

    async def opened(proxy: Proxy) -> None:
        async with AsyncStore.open(proxy.database_url, application_name=name):
            await asyncio.sleep(60)

    async def main(proxy: Proxy) -> None:
        proxy.pause = 0.02
        for pause in (0.2, 0.1, 0.01, 0, 0.05):
            task = asyncio.create_task(opened(proxy))
            await asyncio.sleep(pause)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    with Proxy(database_url) as proxy:
        # Also when the loop ends before the thread does.
        run(main(proxy))
        waiting.until(
            lambda: not any("rootstream-own" in thread.name for thread in threading.enumerate()),
            "the threads to end",
        )
        waiting.until(lambda: connected() == 0, "all connections to be closed")


def test_closing_that_is_cancelled_closes_all_the_same(
    database_url: str, redis_url: str, admin: psycopg.Connection[Any]
) -> None:
    async def main() -> AsyncStore:
        store = await AsyncStore.open(database_url, redis_url)
        assert await store.one(ECHO, n=1) == 1
        # All threads of the loop are busy, and more wait.
        busy = [asyncio.create_task(asyncio.to_thread(time.sleep, 0.2)) for _ in range(64)]
        await asyncio.sleep(0.05)
        closing = asyncio.create_task(store.close())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        await until(lambda: store.sync._pool.closed, "the store to be closed")
        for task in busy:
            task.cancel()
        return store

    store = run(main())
    with pytest.raises(StoreClosed):
        store.sync.one(ECHO, n=1)
