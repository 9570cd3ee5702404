"""What repositories see of the data layer: `Db`, which runs queries, be it a Store or an open Transaction."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from datetime import datetime
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    Literal,
    ParamSpec,
    Protocol,
    TypeVar,
    cast,
    overload,
)

from rootstream_store.cache import Ask, Effect, Unreached
from rootstream_store.errors import Unavailable
from rootstream_store.queries import Query

if TYPE_CHECKING:
    from rootstream_store.async_db import AsyncDb
    from rootstream_store.batch import Batch

__all__ = ["CachedQuery", "Db", "Repository", "StreamRepository", "repository", "stream_repository"]

R = TypeVar("R")
T = TypeVar("T")
P = ParamSpec("P")
C = TypeVar("C", covariant=True)


class CachedQuery(Generic[R]):
    """A query of one row whose answer may come from Redis.

    `key` makes the Redis key from the query's parameters. `ttl` is in seconds. `expires` tells when a record
    stops being true by itself, so that it is never cached for longer. Whoever changes the row invalidates the
    key.
    """

    def __init__(
        self,
        query: Query[R],
        *,
        key: Callable[..., str],
        ttl: float,
        expires: Callable[[R], datetime | None] | None = None,
    ) -> None:
        self.query = query
        self.key = key
        self.ttl = ttl
        self.expires = expires

    def life(self, record: R) -> float:
        """Seconds that this answer may be cached from now on; 0 or less: not at all."""
        end = self.expires(record) if self.expires else None
        return self.ttl if end is None else min(self.ttl, end.timestamp() - time.time())


class Db(ABC):
    """Runs queries. A Store runs each by itself; a Transaction runs all of them as one.

    Every verb checks the parameters against the query file and raises QueryError or InvalidInput before the
    server is asked. It raises Unavailable or Timeout, both retryable, when the server does not answer.
    """

    @abstractmethod
    def one(self, query: Query[R], /, **params: object) -> R:
        """The one row. Raises NotFound when there is none, TooManyRows when there are more."""

    @abstractmethod
    def maybe(self, query: Query[R], /, **params: object) -> R | None:
        """The one row, or None. Raises TooManyRows."""

    @abstractmethod
    def one_or(
        self,
        query: Query[R],
        otherwise: Callable[[Unavailable | None], Generator[Any, Any, R]],
        effect: Callable[[R], Effect] | None = None,
        /,
        **params: object,
    ) -> R:
        """The one row of a write, with its effect after the commit; and the steps that `otherwise` makes (see
        `flow`) where there is no row, or where the answer was lost and nobody knows whether it was applied.

        For writes that nearly always answer with a row and seldom need a second look: a flow of their own
        would take longer than the row. Raises TooManyRows."""

    @abstractmethod
    def all(self, query: Query[R], /, **params: object) -> list[R]:
        """All rows, in the query's order."""

    @abstractmethod
    def run(self, query: Query[Any], /, **params: object) -> int:
        """How many rows the statement changed."""

    @abstractmethod
    def stream(
        self, query: Query[R], /, *, size: int = 1000, **params: object
    ) -> AbstractContextManager[Iterator[R]]:
        """All rows, `size` at a time from a server-side cursor, so that they need not fit in memory: `with
        db.stream(q) as rows:`. Keeps one connection until the block ends."""

    def stream_from(
        self, steps: Generator[Any, Any, AbstractContextManager[Iterator[R]]], /, *, size: int = 1000
    ) -> AbstractContextManager[Iterator[R]]:
        """What `stream` gives, where steps (see `flow`) come before it and end with it. `size`: as there."""
        return self.flow(steps)

    @abstractmethod
    def copy(self, query: Query[None], rows: Iterable[Sequence[object]], types: Sequence[str]) -> int:
        """Writes many rows by COPY; `types` are the PostgreSQL types of the columns. Returns how many; all or
        none."""

    @abstractmethod
    def batch(self) -> AbstractContextManager[Batch]:
        """Many statements in one round trip, all or none: `with db.batch() as batch: answer = batch.one(q,
        …)`, then `answer.value`."""

    @property
    @abstractmethod
    def has_cache(self) -> bool:
        """Whether `cached` may be answered from Redis. False: always from PostgreSQL."""

    @abstractmethod
    def cached(self, query: CachedQuery[R], /, **params: object) -> R | None:
        """The one row or None, from Redis when it is known there. In a transaction always from PostgreSQL."""

    @abstractmethod
    def ask(self, ask: Ask[T], otherwise: Callable[[], Generator[Any, Any, T]]) -> T:
        """What a script on Redis answers; where Redis cannot be asked, what the steps that `otherwise` makes
        (see `flow`) give. Not a part of a transaction: it runs at once, and a rollback does not undo it."""

    @abstractmethod
    def ask_all(self, asks: Sequence[Ask[T]]) -> list[T | Literal[Unreached.UNREACHED]]:
        """What many scripts answer, in few round trips; UNREACHED for each that cannot be asked. As `ask`."""

    @abstractmethod
    def after_commit(self, *effects: Effect) -> None:
        """Runs the effects on Redis once the changes before it are committed: at once in a Store, at the
        commit of a Transaction, never after a rollback. They never raise; a Redis that is down costs no
        write."""

    @abstractmethod
    def flow(
        self, steps: Generator[Any, Any, T], *, atomic: bool = False, invalidates: Sequence[str] = ()
    ) -> T:
        """Runs a function of several steps (see `flow`) and returns its result.

        `atomic`: in a transaction, or a savepoint inside one. `invalidates`: keys of cached answers that the
        steps make untrue; they are marked before the change is committed and dropped after it, so that a
        crash between the two leaves no stale answer.
        """

    @abstractmethod
    def transaction(self, *, isolation: str | None = None) -> AbstractContextManager[Db]:
        """All of the block or none of it. Inside a transaction: a savepoint."""


class Repository(Protocol[P, C]):
    """A repository function: what a Store gives is awaited of an AsyncStore."""

    @overload
    def __call__(self, db: Db, /, *args: P.args, **kwargs: P.kwargs) -> C: ...
    @overload
    def __call__(self, db: AsyncDb, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, C]: ...


class StreamRepository(Protocol[P, C]):
    """A repository function that gives many rows: `with` a Store, `async with` an AsyncStore."""

    @overload
    def __call__(
        self, db: Db, /, *args: P.args, **kwargs: P.kwargs
    ) -> AbstractContextManager[Iterator[C]]: ...
    @overload
    def __call__(
        self, db: AsyncDb, /, *args: P.args, **kwargs: P.kwargs
    ) -> AbstractAsyncContextManager[AsyncIterator[C]]: ...


def repository(function: Callable[Concatenate[Db, P], C]) -> Repository[P, C]:
    """Marks a repository function: it does no I/O of its own, but returns what a verb of its `db` returns.

    So an AsyncDb makes it a coroutine."""
    registered.append(function)
    return cast("Repository[P, C]", function)


def stream_repository(
    function: Callable[Concatenate[Db, P], AbstractContextManager[Iterator[C]]],
) -> StreamRepository[P, C]:
    """As `repository`, where it returns what `stream` does."""
    registered.append(function)
    return cast("StreamRepository[P, C]", function)


registered: list[Callable[..., Any]] = []
"""Every repository function there is, for tests and tools that look at all of them."""
