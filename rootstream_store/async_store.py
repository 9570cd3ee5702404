"""The store for asyncio: the same repositories, awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from rootstream_store._async_verbs import AsyncVerbs, Block, InTurn
from rootstream_store.cache import Cache, LoopCache
from rootstream_store.database import LoopPool, Pool
from rootstream_store.event_loop import Home, wait_for
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
        super().__init__(sync, sync.home.run)
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
        await asyncio.to_thread(self.sync.close, timeout)

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
        return Block(
            self._run,
            lambda: self.sync.transaction(isolation=isolation),
            AsyncTransaction,
        )

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
            return wait_for(work(AsyncTransaction(transaction, InTurn(self._run))))

        return await self._run(self.sync.transact, attempt, isolation=isolation, deadline=deadline)

    async def sweep_invalidations(self) -> int:
        """As Store.sweep_invalidations."""
        return await self._run(self.sync.sweep_invalidations)

    async def health(self) -> Health:
        """As Store.health."""
        return await asyncio.to_thread(self.sync.health)


class AsyncTransaction(AsyncVerbs):
    """Made by `AsyncStore.transaction()`. Reads see the transaction's own writes. Several tasks may use it:
    their calls run one after the other."""

    def transaction(self, *, isolation: str | None = None) -> AbstractAsyncContextManager[AsyncTransaction]:
        """As Transaction.transaction: a savepoint."""
        return Block(
            self._run,
            lambda: self._db.transaction(isolation=isolation),
            AsyncTransaction,
        )


class LoopStore(Store):
    """A store whose waits, where a coroutine calls it through its home, are those of a task."""

    def __init__(self, settings: Settings) -> None:
        # As many as may be on Redis and making connections at a time.
        self.home = Home(settings.redis_pool_size + settings.pool_size)
        super().__init__(settings)

    def _open_cache(self, settings: Settings) -> Cache:
        return LoopCache(settings)

    def _open_pool(self, settings: Settings) -> Pool:
        return LoopPool(settings, self.home)

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
        opening = asyncio.ensure_future(asyncio.to_thread(self._begin))
        try:
            # Connecting waits for the network.
            return self._kind(await asyncio.shield(opening))
        except asyncio.CancelledError:
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


def _close_unused(opening: asyncio.Future[LoopStore]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.get_loop().run_in_executor(None, opening.result().close)
