"""The same in coroutines: AsyncStore beside psycopg's own pool, and asyncpg where that is installed."""

from __future__ import annotations

import asyncio
import importlib
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

from psycopg_pool import AsyncConnectionPool

from rootstream_store import AsyncStore, users

from .._suite import CALLS
from ._bench import Bench
from ._picture import Bar, Panel
from ._rivals import POOL_SIZE
from ._ways import Sample, Way, awaited, measure_ways

__all__ = ["run"]

_OURS = "AsyncStore"
_ASYNCPG_POOL = "asyncpg, pool.fetchrow"
_DOCUMENTED = "psycopg's AsyncConnectionPool"
_HELD = "asyncpg, held connection"
"""For one coroutine at a time."""
_TASKS = 16
"""Coroutines at once."""

Ask = Callable[[], Awaitable[object]]


def run(bench: Bench) -> None:
    """A read by key, one after the other, and by many coroutines at once."""
    loop = asyncio.new_event_loop()
    stack = AsyncExitStack()
    try:
        asks = loop.run_until_complete(_open(bench, stack))
        baseline = _ASYNCPG_POOL if _ASYNCPG_POOL in asks else _DOCUMENTED
        for title, make, calls in (
            ("a user by id in a coroutine", awaited, 100),
            (f"a user by id, {_TASKS} coroutines at once", _at_once, 10 * _TASKS),
        ):
            ways: dict[str, Way] = {
                name: make(loop, ask) for name, ask in asks.items() if make is awaited or name != _HELD
            }
            found = measure_ways(ways, baseline, bench.rounds(30), calls, seconds=2 if bench.quick else 10)
            bench.table(f"users.get: {title}; ratios to {baseline}", found, CALLS)
            bars = [
                Bar(name, row["p50_us"], "ours" if name == _OURS else "other")
                for name, row in sorted(found.items(), key=lambda row: row[1]["p50_us"])
            ]
            bench.panels.append(Panel(title, "µs a call", bars))
            if make is awaited and baseline == _ASYNCPG_POOL:
                bench.aim("AsyncStore, beside asyncpg's pool.fetchrow", found[_OURS]["ratio"])
    finally:
        loop.run_until_complete(stack.aclose())
        loop.close()


async def _open(bench: Bench, stack: AsyncExitStack) -> dict[str, Ask]:
    statement, user_id = bench.contest("users.get").statement, bench.world.user_id
    text, params = statement.query.text, statement.params
    asks: dict[str, Ask] = {}

    pool: Any = AsyncConnectionPool(
        bench.database_url, min_size=POOL_SIZE, max_size=POOL_SIZE, kwargs={"autocommit": True}, open=False
    )
    await stack.enter_async_context(pool)
    await pool.wait()

    async def documented() -> object:
        async with pool.connection() as connection:
            return await (await connection.execute(text, params)).fetchone()

    asks[_DOCUMENTED] = documented
    if (asyncpg := _found("asyncpg")) is not None:
        sent, values = statement.query.sent_text.decode(), list(params.values())
        held = await asyncpg.connect(bench.database_url)
        stack.push_async_callback(held.close)
        theirs = await asyncpg.create_pool(bench.database_url, min_size=POOL_SIZE, max_size=POOL_SIZE)
        stack.push_async_callback(theirs.close)
        asks[_HELD] = lambda: held.fetchrow(sent, *values)
        asks[_ASYNCPG_POOL] = lambda: theirs.fetchrow(sent, *values)
    store = await stack.enter_async_context(AsyncStore.open(bench.database_url, pool_size=POOL_SIZE))
    asks[_OURS] = lambda: users.get(store, user_id)
    return asks


def _found(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def _at_once(loop: asyncio.AbstractEventLoop, ask: Ask) -> Way:
    """The time of all calls over their number: a median of each would tell of the waiting for its turn."""

    async def repeat(count: int) -> None:
        for _ in range(count):
            await ask()

    async def gather(count: int) -> Sample:
        cpu, start = time.thread_time(), time.perf_counter()
        await asyncio.gather(*(repeat(count // _TASKS) for _ in range(_TASKS)))
        took, used = time.perf_counter() - start, time.thread_time() - cpu
        return Sample(took / count * 1e6, used / count * 1e6)

    return lambda count: loop.run_until_complete(gather(count))
