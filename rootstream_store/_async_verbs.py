"""The verbs of an AsyncDb, each of which runs that of a Db on the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from itertools import islice
from types import TracebackType
from typing import Any, Concatenate, Generic, Literal, ParamSpec, TypeVar

from rootstream_store.async_db import AsyncDb
from rootstream_store.batch import Batch
from rootstream_store.cache import Ask, Effect, Unreached
from rootstream_store.db import CachedQuery, Db
from rootstream_store.errors import StoreClosed, Unavailable
from rootstream_store.event_loop import Home
from rootstream_store.queries import Query

__all__ = ["AsyncVerbs", "InTurn"]

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")

Coro = Coroutine[Any, Any, T]


class AsyncVerbs(AsyncDb):
    """`db` is what runs the queries, on the loop of `home`. `turn`: for what is on one connection; None: each
    call gets its own."""

    def __init__(self, db: Db, home: Home, turn: InTurn | None = None) -> None:
        self._db = db
        self._home = home
        self._turn = turn
        self._run = home.run if turn is None else turn.run

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
        return self._block(self._db.batch, lambda batch, _: batch)

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
        return self._block(begin, lambda rows, turn: _in_pages(turn, rows, size))

    def _block(
        self, begin: Callable[[], AbstractContextManager[S]], given: Callable[[S, InTurn], T]
    ) -> AbstractAsyncContextManager[T]:
        return Block(self._turn or InTurn(self._home), begin, given)


class InTurn:
    """Runs calls on one connection one after the other, whichever tasks they come from."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self._turn = asyncio.Lock()
        self._is_closed = False

    async def run(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """As Home.run. Raises StoreClosed after `close`."""
        async with self._turn:
            if self._is_closed:
                raise StoreClosed("the transaction has ended")
            return await self.home.run(function, *args, **kwargs)

    async def end(
        self,
        end: Callable[..., bool | None],
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        """What `end`, the end of a block, returns. Whoever is still in the block is waited for, even when
        this task is cancelled meanwhile: nobody else would end it."""
        cancelled = await self._take_turn()
        try:
            if cancelled is None:
                return await self.home.run(end, kind, error, trace)
            if error is None:
                kind, error, trace = type(cancelled), cancelled, cancelled.__traceback__
            await self.home.run(end, kind, error, trace)
            raise cancelled
        finally:
            self._turn.release()
            del cancelled  # it holds this frame by its traceback

    async def close(self) -> None:
        """Lets no call in any more, and waits for the one that is under way, as `end` does."""
        self._is_closed = True
        cancelled = await self._take_turn()
        self._turn.release()
        if cancelled is not None:
            try:
                raise cancelled
            finally:
                del cancelled

    async def _take_turn(self) -> asyncio.CancelledError | None:
        cancelled: asyncio.CancelledError | None = None
        while True:
            try:
                await self._turn.acquire()
            except asyncio.CancelledError as error:
                cancelled = error
            else:
                return cancelled


class Block(AbstractAsyncContextManager[T], Generic[S, T]):
    """A block of a Db: `begin` makes it, `given` turns what it gives, and the turn in which that is used,
    into what the caller gets."""

    def __init__(
        self, turn: InTurn, begin: Callable[[], AbstractContextManager[S]], given: Callable[[S, InTurn], T]
    ) -> None:
        self._turn = turn
        self._begin = begin
        self._given = given

    async def __aenter__(self) -> T:
        return self._given(await self._turn.run(self._enter), self._turn)

    def _enter(self) -> S:
        # Made here: a flow may have to run first.
        self._block = self._begin()
        return self._block.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        if kind is GeneratorExit and asyncio._get_running_loop() is None:
            self._turn.home.abandon(self._block.__exit__, kind, error, trace)
            return None
        return await self._turn.end(self._block.__exit__, kind, error, trace)


async def _in_pages(turn: InTurn, rows: Iterator[R], size: int) -> AsyncIterator[R]:
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
        found = await turn.run(page)
        for row in found:
            yield row
        if failed:
            raise failed[0]
        if len(found) < size:
            return
