"""An open transaction: the same verbs as a Store, on one connection, applied together or not at all."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

import psycopg
from psycopg.pq import TransactionStatus

from rootstream_store.batch import Batch
from rootstream_store.cache import UNREACHED, Ask, Cache, Effect, Invalidate, Unreached
from rootstream_store.database import (
    Connection,
    copy_rows,
    execute,
    fetch_all,
    fetch_up_to_one,
    settle,
    stream_rows,
    translate,
)
from rootstream_store.db import CachedQuery, Db
from rootstream_store.errors import Conflict, InvalidInput, NotFound, StoreClosed, Unavailable
from rootstream_store.flow import drive
from rootstream_store.queries import Query

__all__ = ["Observer", "Transaction", "begin", "invalidations", "isolation_level", "run_transaction"]

R = TypeVar("R")
T = TypeVar("T")

Observer = Callable[[str, Callable[[], Any]], Any]
"""Called with the name of a query and what runs it; returns what that returns. Measures."""

_ISOLATION = {
    "read committed": psycopg.IsolationLevel.READ_COMMITTED,
    "repeatable read": psycopg.IsolationLevel.REPEATABLE_READ,
    "serializable": psycopg.IsolationLevel.SERIALIZABLE,
}

# What FETCH takes.
_LARGEST_FETCH = 2**31 - 1


class Transaction(Db):
    """Made by `Store.transaction()`. For one thread at a time. Reads see the transaction's own writes."""

    def __init__(self, connection: Connection, cache: Cache, observe: Observer) -> None:
        self._open_connection: Connection | None = connection
        self._cache = cache
        self._observe = observe
        self._effects: list[Effect] = []

    @property
    def _connection(self) -> Connection:
        if self._open_connection is None:
            raise StoreClosed("the transaction has ended")
        return self._open_connection

    def one(self, query: Query[R], /, **params: object) -> R:
        found = self._perform(fetch_up_to_one, query, params)
        if not found:
            raise NotFound(query.entity, query.key(params), query=query.file)
        return found[0]

    def maybe(self, query: Query[R], /, **params: object) -> R | None:
        found = self._perform(fetch_up_to_one, query, params)
        return found[0] if found else None

    def one_or(
        self,
        query: Query[R],
        otherwise: Callable[[Unavailable | None], Generator[Any, Any, R]],
        effect: Callable[[R], Effect] | None = None,
        /,
        **params: object,
    ) -> R:
        # A lost connection takes all of the transaction with it: there is nothing to doubt.
        found = self._perform(fetch_up_to_one, query, params)
        if not found:
            return self.flow(otherwise(None))
        if effect is not None:
            self._effects.append(effect(found[0]))
        return found[0]

    def all(self, query: Query[R], /, **params: object) -> list[R]:
        return self._perform(fetch_all, query, params)

    def run(self, query: Query[Any], /, **params: object) -> int:
        return self._perform(execute, query, params).count

    @contextmanager
    def stream(self, query: Query[R], /, *, size: int = 1000, **params: object) -> Generator[Iterator[R]]:
        query.check(params)
        if type(size) is not int or not 1 <= size <= _LARGEST_FETCH:
            raise InvalidInput("size", f"must be a whole number from 1 to {_LARGEST_FETCH}", size)
        with stream_rows(self._connection, query, params, size) as rows:
            yield rows

    def copy(self, query: Query[None], rows: Iterable[Sequence[object]], types: Sequence[str]) -> int:
        return self._observe(query.name, lambda: copy_rows(self._connection, query, rows, types))  # type: ignore[no-any-return]  # Observer hands through

    @contextmanager
    def batch(self) -> Generator[Batch]:
        batch = Batch()
        yield batch
        self._observe("batch", lambda: batch.send(self._connection))

    @property
    def has_cache(self) -> bool:
        return False

    def cached(self, query: CachedQuery[R], /, **params: object) -> R | None:
        return self.maybe(query.query, **params)

    def ask(self, ask: Ask[T], otherwise: Callable[[], Generator[Any, Any, T]]) -> T:
        _ = self._connection
        answer = self._cache.ask(ask)
        return self.flow(otherwise()) if answer is UNREACHED else answer

    def ask_all(self, asks: Sequence[Ask[T]]) -> list[T | Literal[Unreached.UNREACHED]]:
        _ = self._connection
        return self._cache.ask_all(asks)

    def after_commit(self, *effects: Effect) -> None:
        _ = self._connection
        self._effects.extend(effects)

    def flow(
        self, steps: Generator[Any, Any, T], *, atomic: bool = False, invalidates: Sequence[str] = ()
    ) -> T:
        self.after_commit(*invalidations(invalidates))
        if not atomic:
            return drive(self, steps)
        # A savepoint: whoever handles the error goes on without half of the steps.
        with self.transaction() as transaction:
            return drive(transaction, steps)

    @contextmanager
    def transaction(self, *, isolation: str | None = None) -> Generator[Transaction]:
        if isolation is not None:
            raise InvalidInput(
                "isolation", "is set where the transaction begins, not at a savepoint", isolation
            )
        connection = self._connection
        kept = len(self._effects)
        block = _enter(connection)
        try:
            with _ending(connection, block, write=False):
                yield self
        except BaseException:
            # Dropping what did not change is safe, and a step may have marked it in Redis already.
            self._effects[kept:] = [one for one in self._effects[kept:] if isinstance(one, Invalidate)]
            raise

    def _perform(
        self,
        action: Callable[[Connection, Query[R], Mapping[str, object]], T],
        query: Query[R],
        params: dict[str, object],
    ) -> T:
        query.check(params)
        connection = self._connection
        return self._observe(query.name, lambda: action(connection, query, params))  # type: ignore[no-any-return]  # Observer hands through


def begin(connection: Connection, level: psycopg.IsolationLevel | None) -> psycopg.Transaction:
    """Begins a transaction on `connection`, for `run_transaction` to end. Raises Unavailable: nothing was
    done yet."""
    if connection.isolation_level is not level:
        connection.isolation_level = level
    # From here on a connection that is given back before its transaction has ended is closed.
    connection.in_transaction = True
    try:
        return _enter(connection)
    except BaseException:
        connection.in_transaction = False
        raise


@contextmanager
def run_transaction(
    connection: Connection, block: psycopg.Transaction, cache: Cache, observe: Observer
) -> Generator[Transaction]:
    """Commits when the block ends, rolls back when it raises. Cached answers that the transaction changes are
    marked before the commit and dropped after it; then its effects run."""
    transaction = Transaction(connection, cache, observe)
    keys: list[str] = []
    committed = connection.is_completed = False
    try:
        with _ending(connection, block, write=True):
            try:
                yield transaction
            finally:
                transaction._open_connection = None
            keys = _invalidated(transaction)
            cache.begin_write(keys)
        committed = True
    except BaseException:
        # Rolled back, or nobody knows: a step may have marked them in Redis before the end.
        keys = keys or _invalidated(transaction)
        committed = connection.is_completed and block.status is psycopg.Transaction.Status.COMMITTED
        raise
    finally:
        # Active still: the thread was cancelled on the way out.
        connection.in_transaction = block.status is psycopg.Transaction.Status.ACTIVE
        if connection.is_limit_passing:
            settle(connection)
        try:
            # Also when the commit failed or nobody knows whether it did: dropping is always safe.
            cache.end_write(keys)
        finally:
            # Also when the task was cancelled meanwhile: others must hear of what is committed.
            if committed:
                cache.run([effect for effect in transaction._effects if not isinstance(effect, Invalidate)])


def _invalidated(transaction: Transaction) -> list[str]:
    return sorted({effect.key for effect in transaction._effects if isinstance(effect, Invalidate)})


def _enter(connection: Connection) -> psycopg.Transaction:
    """BEGIN, or SAVEPOINT in a transaction."""
    block = psycopg.Transaction(connection)
    try:
        return block.__enter__()
    except psycopg.Error as error:
        raise translate(error, broken=connection.broken) from error


@contextmanager
def _ending(connection: Connection, block: psycopg.Transaction, *, write: bool) -> Generator[None]:
    """Commits or rolls back, and raises our errors for that alone: what the block raises is raised as it
    was."""
    try:
        yield
        _require_sound(connection)
    except BaseException as error:
        try:
            block.__exit__(type(error), error, error.__traceback__)
        except psycopg.Error as second:
            # A connection that is lost has rolled back. Else: transactions that end in another order than
            # they began in reverse.
            if not connection.closed:
                raise translate(second, broken=connection.broken) from second
        raise
    try:
        block.__exit__(None, None, None)
    except psycopg.Error as error:
        raise translate(error, write=write, broken=connection.broken) from error


def _require_sound(connection: Connection) -> None:
    # The server answers COMMIT in a failed transaction with a ROLLBACK and no error, and psycopg sends no
    # COMMIT at all on a lost connection: without this the caller would take the work for done.
    status = connection.pgconn.transaction_status
    if status == TransactionStatus.INERROR:
        raise Conflict(
            "a statement failed and its error was handled inside the transaction, which can now only be "
            "rolled back; run what may fail in a nested transaction"
        )
    if status == TransactionStatus.UNKNOWN:
        raise Unavailable("the connection was lost before the commit: nothing was applied")


def invalidations(keys: Iterable[str]) -> list[Invalidate]:
    """What drops these keys. Raises InvalidInput for what is no list of strings."""
    if isinstance(keys, str) or not isinstance(keys, Iterable):
        raise InvalidInput("invalidates", "must be a list of keys", keys)
    return [Invalidate(key) for key in keys]


def isolation_level(name: str | None) -> psycopg.IsolationLevel | None:
    """None for the server's default. Raises InvalidInput."""
    if name is None:
        return None
    if not isinstance(name, str) or name not in _ISOLATION:
        raise InvalidInput("isolation", f"must be one of {', '.join(_ISOLATION)}", name)
    return _ISOLATION[name]
