"""The store for asyncio: the same repositories, awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Sequence
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from rootstream_store._async_messages import AsyncMessages, Source
from rootstream_store._async_verbs import AsyncVerbs, InTurn
from rootstream_store.cache import Cache, Gap, LoopCache, Message
from rootstream_store.database import LoopPool, Pool
from rootstream_store.db import Db
from rootstream_store.event_loop import Home, in_own_thread, in_thread, wait_for
from rootstream_store.settings import Settings
from rootstream_store.store import Store
from rootstream_store.transaction import Transaction

if TYPE_CHECKING:
    from rootstream_store.health import Health

__all__ = ["AsyncStore", "AsyncTransaction"]

T = TypeVar("T")


class AsyncStore(AsyncVerbs):
    """A pool of PostgreSQL connections and a Redis client for one event loop, with the verbs of AsyncDb.

    Each call is one statement, committed by itself. `async with store.transaction() as tx:` makes several
    one. Made by `open` or `embedded`; `async with` or `close()` ends it. Needs an event loop that watches
    sockets (`add_reader`): any but the default one on Windows.
    """

    def __init__(self, sync: LoopStore) -> None:
        """See `open`."""
        super().__init__(sync, sync.home)
        self.sync: Store = sync
        """The store below, for code in other threads, such as `events.Subscription`, and for metrics. It has
        the same pools. A call of it on the event loop holds all tasks up."""

    @classmethod
    def open(
        cls, database_url: str | None = None, redis_url: str | None = None, **settings: Any
    ) -> Opening[Self]:
        """As Store.open: `async with AsyncStore.open(…) as store:`, or `store = await AsyncStore.open(…)`."""
        return Opening(cls, lambda: LoopStore.open(database_url, redis_url, **settings))

    @classmethod
    def embedded(cls, path: Path | str | None = None, **settings: Any) -> Opening[Self]:
        """As Store.embedded: `async with AsyncStore.embedded() as store:`."""
        return Opening(cls, lambda: LoopStore.embedded(path, **settings))

    async def close(self, timeout: float = 5.0) -> None:
        """As Store.close. Closing twice does nothing."""
        # In a thread of its own, and to its end whatever becomes of this task.
        await asyncio.shield(asyncio.wrap_future(in_own_thread(self.sync.close, timeout)))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<AsyncStore {self.sync.settings!r}>"

    def transaction(self, *, isolation: str | None = None) -> AbstractAsyncContextManager[AsyncTransaction]:
        """As Store.transaction: `async with store.transaction() as tx: await streams.start(tx, …)`."""
        return self._block(lambda: self.sync.transaction(isolation=isolation), AsyncTransaction)

    async def transact(
        self,
        work: Callable[[AsyncTransaction], Awaitable[T]],
        *,
        isolation: str | None = None,
        deadline: float | None = None,
    ) -> T:
        """As Store.transact: runs `work` in a transaction, and again after a failure that a retry can
        help."""

        def attempt(transaction: Transaction) -> T:
            return wait_for(_whole(work, AsyncTransaction(transaction, InTurn(self._home))))

        return await self._run(self.sync.transact, attempt, isolation=isolation, deadline=deadline)

    def subscribe(self, *channels: str, patterns: Sequence[str] = ()) -> AsyncMessages[Message | Gap]:
        """As Store.subscribe: `async with store.subscribe("stream:7:events") as messages: async for message
        in messages:`."""
        return self.messages(lambda below: below.subscribe(*channels, patterns=patterns))

    def messages(self, open_source: Callable[[Store], Source[T]]) -> AsyncMessages[T]:
        """What `open_source` opens on the store below, read on the event loop."""
        return AsyncMessages(self._home, lambda: open_source(self.sync))

    async def sweep_invalidations(self) -> int:
        """As Store.sweep_invalidations."""
        return await self._run(self.sync.sweep_invalidations)

    async def health(self) -> Health:
        """As Store.health."""
        return await asyncio.to_thread(self.sync.health)


class AsyncTransaction(AsyncVerbs):
    """Made by `AsyncStore.transaction()`. Reads see the transaction's own writes. Several tasks may use it:
    their calls run one after the other."""

    def __init__(self, transaction: Db, turn: InTurn) -> None:
        super().__init__(transaction, turn.home, turn)
        self.turn = turn
        """In which the calls on its connection are run."""

    def transaction(self, *, isolation: str | None = None) -> AbstractAsyncContextManager[AsyncTransaction]:
        """As Transaction.transaction: a savepoint."""
        return self._block(lambda: self._db.transaction(isolation=isolation), AsyncTransaction)


async def _whole(work: Callable[[AsyncTransaction], Awaitable[T]], transaction: AsyncTransaction) -> T:
    try:
        return await work(transaction)
    finally:
        # A task of `work` may be at work in it still.
        await transaction.turn.close()


class LoopStore(Store):
    """A store whose waits, where a coroutine calls it through its home, are those of a task."""

    def __init__(self, settings: Settings) -> None:
        # On Redis or stopping a statement; filling the cache or waiting for a connection.
        self.home = Home(settings.redis_pool_size + settings.pool_size, 2 * settings.pool_size)
        super().__init__(settings)

    def _open_cache(self, settings: Settings) -> Cache:
        return LoopCache(settings)

    def _open_pool(self, settings: Settings) -> Pool:
        return LoopPool(settings, self.home)

    def health(self) -> Health:
        """As Store.health."""
        return in_thread(super().health)

    def close(self, timeout: float = 5.0) -> None:
        """As Store.close."""
        try:
            super().close(timeout)
        finally:
            self.home.close()


A = TypeVar("A", bound=AsyncStore)


class Opening(Generic[A]):
    """A store that is opened when this is awaited, or entered by `async with`, which closes it at the end."""

    def __init__(self, kind: Callable[[LoopStore], A], begin: Callable[[], LoopStore]) -> None:
        self._kind = kind
        self._begin = begin
        self._store: A | None = None

    def __await__(self) -> Generator[Any, Any, A]:
        return self._open().__await__()

    async def _open(self) -> A:
        # Connecting waits for the network.
        opening = in_own_thread(self._begin)
        try:
            return self._kind(await asyncio.shield(asyncio.wrap_future(opening)))
        except BaseException:
            # The thread goes on, and nobody would close what it opens.
            opening.add_done_callback(_close_unused)
            raise

    async def __aenter__(self) -> A:
        self._store = await self._open()
        return self._store

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._store is not None:
            await self._store.close()


def _close_unused(opening: Future[LoopStore]) -> None:
    if opening.exception() is None:
        # This may be the thread of the event loop.
        in_own_thread(opening.result().close)
