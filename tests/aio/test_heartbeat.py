"""The event loop is never held up: a task that wakes every few milliseconds does so whatever servers do."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from rootstream_store import AsyncStore, live, streams, users, viewers
from rootstream_store.errors import AuthenticationFailed, Timeout, Unavailable

from ..cache.conftest import OwnValkey
from ..factories import PASSWORD, make_stream, make_user
from ..faults.proxy import Proxy
from ..statements import ADD, COPY, NUMBERS, SET, SLEEP, make_items
from .running import ECHO, open_store, run

LONGEST = 0.4
"""Seconds without a beat; what is waited for here takes longer. A busy machine has pauses, too."""


@asynccontextmanager
async def beating(longest: float = LONGEST) -> AsyncIterator[None]:
    """Fails the test when the loop stood still for longer within the block."""
    loop = asyncio.get_running_loop()
    gaps: list[float] = []

    async def beat() -> None:
        last = loop.time()
        while True:
            await asyncio.sleep(0.003)
            gaps.append(loop.time() - last)
            last = loop.time()

    task = asyncio.create_task(beat())
    started = loop.time()
    await asyncio.sleep(0.01)
    try:
        yield
    finally:
        await asyncio.sleep(0.01)
        task.cancel()
    assert loop.time() - started > longest, "nothing would have held it up"
    assert max(gaps) < longest, f"{max(gaps):.3f} s without a beat"


@pytest.fixture
def valkey() -> Iterator[OwnValkey]:
    """A server of the test's own, which it may break."""
    directory = Path(tempfile.mkdtemp(prefix="rsf-"))
    server = OwnValkey(directory)
    try:
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def proxy(database_url: str) -> Iterator[Proxy]:
    with Proxy(database_url) as proxy:
        yield proxy


def test_statements_locks_and_an_exhausted_pool(database_url: str) -> None:
    make_items(database_url)

    async def main() -> None:
        async with open_store(database_url, pool_size=2, pool_timeout=0.5) as store:
            await store.one(ADD, id=1, name="one")
            async with beating(), store.transaction() as tx:
                await tx.run(SET, id=1, name="locked")
                waiting = asyncio.create_task(store.run(SET, id=1, name="later"))
                await asyncio.sleep(0.05)
                with pytest.raises(Timeout, match="exhausted"):
                    await store.one(ECHO, n=1)
                await tx.run(SLEEP, seconds=0.5)
            assert await waiting == 1

    run(main())


def test_a_server_that_is_down_and_one_that_is_frozen(proxy: Proxy) -> None:
    async def main() -> None:
        async with open_store(
            proxy.database_url, pool_size=2, pool_timeout=1.0, retry_deadline=1.0, connect_timeout=2
        ) as store:
            assert await store.one(ECHO, n=1) == 1
            proxy.stop()
            async with beating():
                with pytest.raises(Unavailable):
                    await store.one(ECHO, n=2)
            proxy.start()
            await until_it_answers(store)
            proxy.deaf()  # connections too
            async with beating():
                tried = [asyncio.create_task(store.one(ECHO, n=n)) for n in range(4)]
                await asyncio.sleep(0.6)
                for task in tried:
                    task.cancel()
                await asyncio.wait(tried)
            proxy.resume()
            proxy.sever()
            await until_it_answers(store)

    run(main())


async def until_it_answers(store: AsyncStore) -> None:
    deadline = asyncio.get_running_loop().time() + 20
    while True:
        try:
            assert await store.one(ECHO, n=1) == 1
        except Unavailable:
            assert asyncio.get_running_loop().time() < deadline
        else:
            return


def test_opening_a_store_on_a_server_that_does_not_answer(proxy: Proxy) -> None:
    async def main() -> None:
        proxy.deaf()
        async with beating():
            with pytest.raises(Unavailable):
                await AsyncStore.open(proxy.database_url, connect_timeout=2)

    run(main())


def test_a_dead_connection_is_replaced(proxy: Proxy) -> None:
    async def main() -> None:
        async with open_store(proxy.database_url, pool_size=2, pool_check_after=0.0) as store:
            assert await asyncio.gather(*(store.one(ECHO, n=n) for n in (1, 2))) == [1, 2]
            proxy.sever()
            proxy.pause = 0.1  # a new connection takes a second
            async with beating():
                assert await asyncio.gather(*(store.one(ECHO, n=n) for n in range(4))) == [0, 1, 2, 3]

    run(main())


def test_a_frozen_redis(database_url: str, valkey: OwnValkey) -> None:
    async def main() -> None:
        # As many tasks as there are threads wait for it, and longer than a beat may last.
        async with open_store(database_url, valkey.url, redis_timeout=0.6, redis_pool_size=4) as store:
            user, stream_id = await asyncio.to_thread(_user_on_air, store)
            assert (await users.get(store, user)).id == user
            valkey.freeze()
            async with beating():
                answers = await asyncio.gather(
                    *(users.get(store, user) for _ in range(20)),
                    *(viewers.join(store, stream_id, n) for n in range(20)),
                    users.update_profile(store, user, display_name="new"),
                    live.get_state(store, stream_id),
                    return_exceptions=True,
                )
                health = await store.health()
            assert not health.redis.reachable
            assert [type(answer) for answer in answers if isinstance(answer, Exception)] == [Unavailable]
            valkey.thaw()

    run(main())


def _user_on_air(store: AsyncStore) -> tuple[int, int]:
    user = make_user(store.sync)
    stream_id = make_stream(store.sync, user.id).id
    streams.start(store.sync, stream_id)
    return user.id, stream_id


def test_a_storm_of_logins(database_url: str, redis_url: str) -> None:
    async def main() -> None:
        async with open_store(database_url, redis_url, pool_size=2) as store:
            await users.create(store, username="ann", email="ann@example.org", password=PASSWORD)
            async with beating():
                storm = [
                    asyncio.create_task(users.authenticate(store, login="ann", password="wrong password"))
                    for _ in range(30)
                ]
                await asyncio.sleep(0.1)
                # Others go on meanwhile: logins hold no connection and none of the threads for Redis.
                for n in range(20):
                    assert await store.one(ECHO, n=n) == n
                    assert (await users.get(store, 1)).username == "ann"
                assert not any(task.done() and task.exception() is None for task in storm)
                answers = await asyncio.gather(*storm, return_exceptions=True)
            assert all(isinstance(answer, AuthenticationFailed) for answer in answers)

    run(main(), 120)


def test_a_copy_of_many_rows_and_a_read_of_many(database_url: str) -> None:
    make_items(database_url)

    async def main() -> None:
        async with open_store(database_url) as store:
            async with beating():
                # Slower than the server takes them, so that the copy never waits for it.
                rows = ((n, f"{n} {sum(range(3000))} {'x' * 1000}") for n in range(15_000))
                assert await store.copy(COPY, rows, ["int8", "text"]) == 15_000
            async with beating():
                count = 0
                async with store.stream(NUMBERS, count=600_000) as numbers:
                    async for n in numbers:
                        count += 1
                        assert n == count
            assert count == 600_000

    run(main(), 120)


def test_transactions_that_need_redis_are_not_held_up_by_reads_that_need_a_connection(
    database_url: str, redis_url: str
) -> None:
    """Each has what the other waits for, once there are as many reads as threads."""

    async def main() -> None:
        async with open_store(
            database_url, redis_url, pool_size=2, pool_timeout=30.0, redis_pool_size=1
        ) as store:
            people = await asyncio.to_thread(lambda: [make_user(store.sync).id for _ in range(60)])
            assert (await users.get(store, people[0])).id == people[0]
            inside = asyncio.Barrier(3)

            async def change(user: int) -> None:
                async with store.transaction() as tx:
                    await users.update_profile(tx, user, display_name="new")
                    await inside.wait()
                    await asyncio.sleep(0.2)

            changes = [asyncio.create_task(change(user)) for user in people[1:3]]
            await inside.wait()
            reads = [asyncio.create_task(users.get(store, user)) for user in people[3:]]
            await asyncio.sleep(0.1)
            # What is cached is answered meanwhile.
            async with asyncio.timeout(10):
                assert (await users.get(store, people[0])).id == people[0]
                await asyncio.gather(*changes)
                assert [user.id for user in await asyncio.gather(*reads)] == people[3:]

    run(main())
