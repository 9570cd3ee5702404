"""The same statement with the same values through what others use; each where it is installed, none of them a
dependency. All in autocommit, as the store is: none pays for a transaction."""

from __future__ import annotations

import asyncio
import importlib
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import psycopg
from psycopg_pool import ConnectionPool

from rootstream_store.queries import Query

from ._contest import Contest
from ._ways import Sample, Way, awaited, each

__all__ = ["POOL_SIZE", "documented_pool", "rivals"]

POOL_SIZE = 8

Prepared = Callable[[Query[Any]], Callable[[dict[str, Any]], object]]
"""Makes of a query what runs it with values and gives all its rows."""


@contextmanager
def documented_pool(database_url: str, size: int = POOL_SIZE) -> Iterator[ConnectionPool]:
    """psycopg_pool with its own defaults, but for autocommit."""
    with ConnectionPool(
        database_url, min_size=size, max_size=size, kwargs={"autocommit": True}, open=False
    ) as pool:
        pool.wait()
        yield pool


@contextmanager
def rivals(database_url: str) -> Iterator[Callable[[Contest], dict[str, Way]]]:
    """What makes the ways of a call with one statement."""
    with ExitStack() as stack:
        connection = stack.enter_context(psycopg.connect(database_url, autocommit=True))
        connection.prepared_max = 1000
        pool = stack.enter_context(documented_pool(database_url))
        blocking: dict[str, Prepared | None] = {
            "psycopg, connection.execute": lambda query: (
                lambda params: connection.execute(query.text, params, prepare=True, binary=True).fetchall()
            ),
            "psycopg_pool, as documented": lambda query: lambda params: _from_pool(pool, query.text, params),
            "SQLAlchemy Core": stack.enter_context(_sqlalchemy(database_url)),
            "aiosql": _aiosql(connection),
        }
        coroutines = stack.enter_context(_asyncpg(database_url))

        def ways(contest: Contest) -> dict[str, Way]:
            query = contest.query
            found = {
                name: each(contest.parameters, prepared(query))
                for name, prepared in blocking.items()
                if prepared is not None
            }
            return {**found, **coroutines(contest)}

        yield ways


def _from_pool(pool: ConnectionPool, text: str, params: dict[str, Any]) -> object:
    with pool.connection() as connection:
        return connection.execute(text, params).fetchall()


@contextmanager
def _sqlalchemy(database_url: str) -> Iterator[Prepared | None]:
    try:
        sqlalchemy: Any = importlib.import_module("sqlalchemy")
    except ImportError:
        yield None
        return
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://",
        creator=lambda: psycopg.connect(database_url, autocommit=True),
        isolation_level="AUTOCOMMIT",
        pool_size=POOL_SIZE,
    )

    def run(text: str, params: dict[str, Any]) -> object:
        with engine.connect() as connection:
            return connection.exec_driver_sql(text, params).fetchall()

    try:
        yield lambda query: lambda params: run(query.text, params)
    finally:
        engine.dispose()


def _aiosql(connection: psycopg.Connection) -> Prepared | None:
    try:
        aiosql: Any = importlib.import_module("aiosql")
    except ImportError:
        return None

    def prepared(query: Query[Any]) -> Callable[[dict[str, Any]], object]:
        # In its own notation, and without comments, in which it would look for parameters.
        text = re.sub(r"(?m)^\s*--.*\n", "", re.sub(r"%\((\w+)\)s", r":\1", query.text))
        found = aiosql.from_str(f"-- name: run({', '.join(query.parameters)})\n{text}", "psycopg")
        return lambda params: list(found.run(connection, **params))

    return prepared


@contextmanager
def _asyncpg(database_url: str) -> Iterator[Callable[[Contest], dict[str, Way]]]:
    try:
        asyncpg: Any = importlib.import_module("asyncpg")
    except ImportError:
        yield lambda _: {}
        return
    loop = asyncio.new_event_loop()

    async def start() -> tuple[Any, Any]:
        connection = await asyncpg.connect(database_url)
        return connection, await asyncpg.create_pool(database_url, min_size=POOL_SIZE, max_size=POOL_SIZE)

    async def end() -> None:
        await connection.close()
        await pool.close()

    connection, pool = loop.run_until_complete(start())

    def ways(contest: Contest) -> dict[str, Way]:
        return {
            "asyncpg, held connection": _in_turn(loop, contest, connection.fetch),
            "asyncpg, pool.fetch": _in_turn(loop, contest, pool.fetch),
        }

    try:
        yield ways
    finally:
        loop.run_until_complete(end())
        loop.close()


def _in_turn(loop: asyncio.AbstractEventLoop, contest: Contest, fetch: Callable[..., Any]) -> Way:
    """One call of asyncpg after the other in a coroutine."""
    text = contest.query.sent_text.decode()
    names = list(contest.query.parameters)

    def way(count: int) -> Sample:
        values = iter([[params[name] for name in names] for params in contest.parameters(count)])
        return awaited(loop, lambda: fetch(text, *next(values)))(count)

    return way
