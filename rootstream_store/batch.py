"""Many statements in one round trip."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import psycopg

from rootstream_store.database import (
    Connection,
    Prepared,
    Together,
    close_if_useless,
    rows_of,
    translate,
)
from rootstream_store.errors import DatabaseError, NotFound, QueryError, RootStreamError, TooManyRows
from rootstream_store.queries import Query

__all__ = ["Answer", "Batch"]

R = TypeVar("R")
T = TypeVar("T")


class Answer(Generic[T]):
    """What one statement of a batch will answer; `value` is there once the batch's block has ended."""

    def __init__(self, query: Query[Any]) -> None:
        self._query = query
        self._read: Callable[[], T] | None = None

    @property
    def value(self) -> T:
        """The result. Raises what the statement's own call would (NotFound, …); QueryError inside the
        block."""
        if self._read is None:
            raise QueryError(
                "the batch has not been sent yet: read answers after its block", query=self._query.file
            )
        return self._read()


class Batch:
    """Collects statements; sent together, in order, when the block of `db.batch()` ends."""

    def __init__(self) -> None:
        self._pending: list[tuple[Query[Any], dict[str, object], Answer[Any], Callable[..., Any]]] = []

    def one(self, query: Query[R], /, **params: object) -> Answer[R]:
        """As `Db.one`."""
        return self._add(query, params, _one)

    def maybe(self, query: Query[R], /, **params: object) -> Answer[R | None]:
        """As `Db.maybe`."""
        return self._add(query, params, _maybe)

    def all(self, query: Query[R], /, **params: object) -> Answer[list[R]]:
        """As `Db.all`."""
        return self._add(query, params, _all)

    def run(self, query: Query[Any], /, **params: object) -> Answer[int]:
        """As `Db.run`."""
        return self._add(query, params, _count)

    def __len__(self) -> int:
        return len(self._pending)

    def _add(self, query: Query[Any], params: dict[str, object], read: Callable[..., Any]) -> Answer[Any]:
        query.check(params)
        answer: Answer[Any] = Answer(query)
        self._pending.append((query, params, answer, read))
        return answer

    def send(self, connection: Connection) -> None:
        """Runs everything in one transaction (or savepoint) on `connection`. All or none is applied."""
        if not self._pending:
            return
        together = Together(connection)
        try:
            results = together.run([(query, params) for query, params, _, _ in self._pending])
        except psycopg.Error as error:
            translated = self._translated(error, connection, together.at)
            close_if_useless(connection, translated)
            raise translated from error
        for (query, params, answer, read), result in zip(self._pending, results, strict=True):
            answer._read = _reader(query, params, result, read)

    def _translated(self, error: psycopg.Error, connection: Connection, at: int) -> RootStreamError:
        write = not connection.in_transaction and not all(query.is_read for query, *_ in self._pending)
        if at == len(self._pending):  # all were fine, and the commit was refused
            return translate(error, write=write, broken=connection.broken)
        query, params, _, _ = self._pending[at]
        return translate(error, file=query.file, params=params, write=write, broken=connection.broken)


def _reader(
    query: Query[Any], params: dict[str, object], result: Prepared, read: Callable[..., T]
) -> Callable[[], T]:
    try:
        # Now: what decodes them is the connection's.
        rows = rows_of(result, query) if result.has_rows and read is not _count else []
    except DatabaseError as error:
        # The batch is applied: the answer that cannot be read says so, and the others can be.
        failure = error

        def fail() -> T:
            raise failure

        return fail
    return lambda: read(query, params, rows, result)


def _one(query: Query[R], params: dict[str, object], rows: list[Any], result: Prepared) -> R:
    found = _up_to_one(query, params, rows, result)
    if not found:
        raise NotFound(query.entity, query.key(params), query=query.file)
    return found[0]


def _maybe(query: Query[R], params: dict[str, object], rows: list[Any], result: Prepared) -> R | None:
    found = _up_to_one(query, params, rows, result)
    return found[0] if found else None


def _up_to_one(query: Query[R], params: dict[str, object], rows: list[Any], result: Prepared) -> list[R]:
    if len(rows) > 1:
        raise TooManyRows(f"at most one row expected, not {len(rows)}", query=query.file)
    return _all(query, params, rows, result)


def _all(query: Query[R], _: dict[str, object], rows: list[Any], result: Prepared) -> list[R]:
    make = query.make_row(result.columns)
    return [make(row) for row in rows]


def _count(_: Query[Any], __: dict[str, object], ___: list[Any], result: Prepared) -> int:
    return result.count
