"""Running a test on an event loop of its own, and cancelling a task at a wait of one's choice."""

from __future__ import annotations

import asyncio
import types
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from contextlib import asynccontextmanager
from typing import Any, Literal, TypeVar

import psycopg

from rootstream_store import AsyncStore
from rootstream_store.queries import Query

from ..statements import statement

__all__ = ["ECHO", "SLOW_ECHO", "Moment", "at_wait", "check_whole", "open_store", "run", "until", "working"]

T = TypeVar("T")

ECHO: Query[int] = statement("SELECT %(n)s::bigint", int, "aio/echo")
SLOW_ECHO: Query[int] = statement(
    "SELECT %(n)s::bigint FROM pg_sleep(%(seconds)s::double precision)", int, "aio/slow_echo"
)

Moment = Literal["while waiting", "with the answer"]


def run(main: Coroutine[Any, Any, T], seconds: float = 60.0) -> T:
    """As asyncio.run; fails the test when it takes longer."""

    async def bounded() -> T:
        async with asyncio.timeout(seconds):
            return await main

    return asyncio.run(bounded())


@asynccontextmanager
async def open_store(
    database_url: str, redis_url: str | None = None, **settings: Any
) -> AsyncIterator[AsyncStore]:
    """A store whose pool must be whole when the test ends."""
    given = {"pool_size": 2, "pool_timeout": 10.0, "redis_timeout": 20.0, **settings}
    async with AsyncStore.open(database_url, redis_url, **given) as store:
        yield store
        await check_whole(store)


async def until(condition: Callable[[], object], what: str = "", seconds: float = 20.0) -> None:
    """Returns as soon as the condition holds; fails the test when it does not within `seconds`."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not condition():
        assert loop.time() < deadline, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.005)


async def check_whole(store: AsyncStore) -> None:
    """No connection is lost, none holds what is another's, and as many calls as there are places are served
    at a time."""
    pool = store.sync._pool
    # The thread that sweeps invalidations may have one for a moment.
    await until(lambda: pool.in_use() == 0, "all connections to be given back")
    size = pool.settings.pool_size
    assert pool._places == size, "places"  # type: ignore[attr-defined]  # of a LoopPool
    assert not pool._callers  # type: ignore[attr-defined]  # of a LoopPool
    inside = asyncio.Barrier(size)

    async def use(number: int) -> None:
        async with store.transaction() as tx:
            assert await tx.one(ECHO, n=number) == number
            await inside.wait()
            assert await tx.one(ECHO, n=-number) == -number

    async with asyncio.timeout(20):
        await asyncio.gather(*map(use, range(1, size + 1)))
    assert pool._places == size, "places"  # type: ignore[attr-defined]  # of a LoopPool


def working(admin: psycopg.Connection[Any]) -> list[tuple[Any, ...]]:
    """What the server does for others in this database: statements, and transactions left open."""
    return admin.execute(
        "SELECT state, query FROM pg_stat_activity WHERE datname = current_database() "
        "AND pid <> pg_backend_pid() AND backend_type = 'client backend' AND state <> 'idle'"
    ).fetchall()


@types.coroutine
def _at_wait(
    work: Coroutine[Any, Any, T], cancels: dict[int, Moment], seen: list[int]
) -> Generator[Any, Any, T]:
    task = asyncio.current_task()
    assert task is not None
    step: Callable[[], Any] = lambda: work.send(None)  # noqa: E731  # replaced below
    try:
        while True:
            waited = step()
            seen[0] += 1
            moment = cancels.get(seen[0])
            if moment == "while waiting" or (moment and (waited is None or waited.done())):
                task.cancel()
            elif moment:
                waited.add_done_callback(lambda _: task.cancel())
            try:
                value = yield waited
            except BaseException as error:  # noqa: BLE001  # handed on
                failure = error
                step = lambda: work.throw(failure)  # noqa: B023, E731  # called before the next one
            else:
                step = lambda: work.send(value)  # noqa: B023, E731  # called before the next one
    except StopIteration as end:
        result: T = end.value
        return result


async def at_wait(work: Coroutine[Any, Any, T], cancels: dict[int, Moment]) -> tuple[bool, int]:
    """Runs `work` in a task that is cancelled at its n-th wait, or waits. Whether it came to its end all the
    same, and how many waits there were. What it raises is raised, unless it is CancelledError."""
    seen = [0]

    async def main() -> T:
        return await _at_wait(work, cancels, seen)

    try:
        await asyncio.create_task(main())
    except asyncio.CancelledError:
        return False, seen[0]
    return True, seen[0]
