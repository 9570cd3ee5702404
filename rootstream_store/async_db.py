"""What repositories see of a store on an event loop: `AsyncDb`, with the verbs of Db to await."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, TypeVar

if TYPE_CHECKING:
    from rootstream_store.batch import Batch
    from rootstream_store.cache import Ask, Effect, Unreached
    from rootstream_store.db import CachedQuery, Db
    from rootstream_store.errors import Unavailable
    from rootstream_store.queries import Query

__all__ = ["AsyncDb"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

Coro = Coroutine[Any, Any, T]


class AsyncDb(ABC):
    """Runs queries. An AsyncStore runs each by itself; an AsyncTransaction runs all of them as one.

    Each verb is that of Db, with the same parameters, results and errors, but is awaited. A task that is
    cancelled while it waits stops its statement on the server; its connection can be used again.
    """

    @abstractmethod
    def one(self, query: Query[R], /, **params: object) -> Coro[R]:
        """As Db.one."""

    @abstractmethod
    def maybe(self, query: Query[R], /, **params: object) -> Coro[R | None]:
        """As Db.maybe."""

    @abstractmethod
    def one_or(
        self,
        query: Query[R],
        otherwise: Callable[[Unavailable | None], Generator[Any, Any, R]],
        effect: Callable[[R], Effect] | None = None,
        /,
        **params: object,
    ) -> Coro[R]:
        """As Db.one_or."""

    @abstractmethod
    def all(self, query: Query[R], /, **params: object) -> Coro[list[R]]:
        """As Db.all."""

    @abstractmethod
    def run(self, query: Query[Any], /, **params: object) -> Coro[int]:
        """As Db.run."""

    @abstractmethod
    def stream(
        self, query: Query[R], /, *, size: int = 1000, **params: object
    ) -> AbstractAsyncContextManager[AsyncIterator[R]]:
        """As Db.stream: `async with db.stream(q) as rows: async for row in rows:`."""

    @abstractmethod
    def stream_from(
        self, steps: Generator[Any, Any, AbstractContextManager[Iterator[R]]], /, *, size: int = 1000
    ) -> AbstractAsyncContextManager[AsyncIterator[R]]:
        """As Db.stream_from."""

    @abstractmethod
    def copy(self, query: Query[None], rows: Iterable[Sequence[object]], types: Sequence[str]) -> Coro[int]:
        """As Db.copy. `rows` is read on the event loop, which goes on whenever the server is waited for."""

    @abstractmethod
    def batch(self) -> AbstractAsyncContextManager[Batch]:
        """As Db.batch: `async with db.batch() as batch: answer = batch.one(q, …)`, then `answer.value`."""

    @property
    @abstractmethod
    def has_cache(self) -> bool:
        """As Db.has_cache."""

    @abstractmethod
    def cached(self, query: CachedQuery[R], /, **params: object) -> Coro[R | None]:
        """As Db.cached."""

    @abstractmethod
    def ask(self, ask: Ask[T], otherwise: Callable[[], Generator[Any, Any, T]]) -> Coro[T]:
        """As Db.ask."""

    @abstractmethod
    def ask_all(self, asks: Sequence[Ask[T]]) -> Coro[list[T | Literal[Unreached.UNREACHED]]]:
        """As Db.ask_all."""

    @abstractmethod
    def after_commit(self, *effects: Effect) -> Coro[None]:
        """As Db.after_commit."""

    @abstractmethod
    def flow(
        self, steps: Generator[Any, Any, T], *, atomic: bool = False, invalidates: Sequence[str] = ()
    ) -> Coro[T]:
        """As Db.flow."""

    @abstractmethod
    def run_sync(
        self, function: Callable[Concatenate[Db, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coro[T]:
        """What `function(db, *args, **kwargs)` returns, a plain function that calls repositories: `await
        store.run_sync(inline.append, "Stream", 7, "StreamStarted", {})`.

        It runs on the event loop; wherever a repository waits, other tasks go on. Waits of another kind in
        it, such as time.sleep, hold all of them up."""

    @abstractmethod
    def transaction(self, *, isolation: str | None = None) -> AbstractAsyncContextManager[AsyncDb]:
        """As Db.transaction: `async with db.transaction() as tx:`."""
