"""The verbs of an AsyncDb, each of which runs that of a Db on the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from itertools import islice
from types import TracebackType
from typing import Any, Concatenate, Generic, Literal, ParamSpec, Protocol, TypeVar

from rootstream_store.async_db import AsyncDb
from rootstream_store.batch import Batch
from rootstream_store.cache import Ask, Effect, Unreached
from rootstream_store.db import CachedQuery, Db
from rootstream_store.errors import Unavailable
from rootstream_store.queries import Query

__all__ = ["AsyncVerbs", "Block", "Run"]

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")

Coro = Coroutine[Any, Any, T]


class Run(Protocol):
    """Runs synchronous code on the event loop: Home.run, or InTurn."""

    def __call__(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> Coro[T]:
        """What `function` returns. Raises what it raises."""


class AsyncVerbs(AsyncDb):
    """`db` is what runs the queries, `run` how it is called."""

    def __init__(self, db: Db, run: Run) -> None:
        self._db = db
        self._run = run

    def one(self, query: Query[R], /, **params: object) -> Coro[R]:
        return self._run(self._db.one, query, **params)

    def maybe(self, query: Query[R], /, **params: object) -> Coro[R | None]:
        return self._run(self._db.maybe, query, **params)

    def one_or(
        self,
        query: Query[R],
        otherwise: Callable[[Unavailable | None], Generator[Any, Any, R]],
        effect: Callable[[R], Effect] | None = None,
        /,
        **params: object,
    ) -> Coro[R]:
        return self._run(self._db.one_or, query, otherwise, effect, **params)

    def all(self, query: Query[R], /, **params: object) -> Coro[list[R]]:
        return self._run(self._db.all, query, **params)

    def run(self, query: Query[Any], /, **params: object) -> Coro[int]:
        return self._run(self._db.run, query, **params)

    def stream(
        self, query: Query[R], /, *, size: int = 1000, **params: object
    ) -> AbstractAsyncContextManager[AsyncIterator[R]]:
        return self._streamed(lambda: self._db.stream(query, size=size, **params), size)

    def stream_from(
        self, steps: Generator[Any, Any, AbstractContextManager[Iterator[R]]], /, *, size: int = 1000
    ) -> AbstractAsyncContextManager[AsyncIterator[R]]:
        return self._streamed(lambda: self._db.stream_from(steps, size=size), size)

    def copy(self, query: Query[None], rows: Iterable[Sequence[object]], types: Sequence[str]) -> Coro[int]:
        return self._run(self._db.copy, query, rows, types)

    def batch(self) -> AbstractAsyncContextManager[Batch]:
        return Block(self._run, self._db.batch, _as_it_is)

    @property
    def has_cache(self) -> bool:
        return self._db.has_cache

    def cached(self, query: CachedQuery[R], /, **params: object) -> Coro[R | None]:
        return self._run(self._db.cached, query, **params)

    def ask(self, ask: Ask[T], otherwise: Callable[[], Generator[Any, Any, T]]) -> Coro[T]:
        return self._run(self._db.ask, ask, otherwise)

    def ask_all(self, asks: Sequence[Ask[T]]) -> Coro[list[T | Literal[Unreached.UNREACHED]]]:
        return self._run(self._db.ask_all, asks)

    def after_commit(self, *effects: Effect) -> Coro[None]:
        return self._run(self._db.after_commit, *effects)

    def flow(
        self, steps: Generator[Any, Any, T], *, atomic: bool = False, invalidates: Sequence[str] = ()
    ) -> Coro[T]:
        return self._run(self._db.flow, steps, atomic=atomic, invalidates=invalidates)

    def run_sync(
        self, function: Callable[Concatenate[Db, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coro[T]:
        return self._run(function, self._db, *args, **kwargs)

    def _streamed(
        self, begin: Callable[[], AbstractContextManager[Iterator[R]]], size: int
    ) -> AbstractAsyncContextManager[AsyncIterator[R]]:
        return Block(self._run, begin, lambda rows, run: _in_pages(run, rows, size))


class InTurn:
    """Runs calls on one connection one after the other, whichever tasks they come from."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._turn = asyncio.Lock()

    async def __call__(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        async with self._turn:
            return await self._run(function, *args, **kwargs)


class Block(AbstractAsyncContextManager[T], Generic[S, T]):
    """A block of a Db: `begin` makes it, `given` turns what it gives, and how to run what is done with that,
    into what the caller gets."""

    def __init__(
        self, run: Run, begin: Callable[[], AbstractContextManager[S]], given: Callable[[S, Run], T]
    ) -> None:
        self._begin = begin
        self._given = given
        # The end of the block too: a task may still be at work in it.
        self._run = InTurn(run)

    async def __aenter__(self) -> T:
        return self._given(await self._run(self._enter), self._run)

    def _enter(self) -> S:
        # Made here: a flow may have to run first.
        self._block = self._begin()
        return self._block.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._run(self._block.__exit__, kind, error, trace)


async def _in_pages(run: Run, rows: Iterator[R], size: int) -> AsyncIterator[R]:
    """Many rows a call, as far as the server has sent them anyway."""
    failed: list[Exception] = []

    def page() -> list[R]:
        found: list[R] = []
        try:
            # Into the list one by one: those before the one that cannot be read are handed out.
            found.extend(islice(rows, size))
        except Exception as error:  # noqa: BLE001  # raised below, in its place among the rows
            failed.append(error)
        return found

    while True:
        found = await run(page)
        for row in found:
            yield row
        if failed:
            raise failed[0]
        if len(found) < size:
            return


def _as_it_is(given: T, _: Run) -> T:
    return given
