"""Many statements in one round trip."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import psycopg

from rootstream_store.database import Connection, close_if_useless, fetch_rows, translate
from rootstream_store.errors import DatabaseError, NotFound, QueryError, RootStreamError, TooManyRows
from rootstream_store.queries import Query

__all__ = ["Answer", "Batch"]

_BEGIN = "BEGIN"
_COMMIT = "COMMIT"

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
        cursors: list[psycopg.Cursor[Any]] = []
        try:
            if connection.in_transaction:
                with connection.pipeline(), connection.transaction():
                    self._queue(connection, cursors)
            else:
                # psycopg's own transaction block would wait for the answers before it sends the COMMIT.
                with connection.pipeline():
                    connection.execute(_BEGIN, prepare=False)
                    self._queue(connection, cursors)
                    connection.execute(_COMMIT, prepare=False)
        except psycopg.Error as error:
            # psycopg puts its failure to end the pipeline in the place of Ctrl-C or what else cut it off.
            cut = error.__context__
            if cut is not None and not isinstance(cut, Exception):
                connection.close()
                raise cut from None
            translated = self._translated(error, connection, cursors)
            close_if_useless(connection, translated)
            if not connection.in_transaction and not connection.closed:
                _roll_back(connection)
            raise translated from error
        for (query, params, answer, read), cursor in zip(self._pending, cursors, strict=True):
            answer._read = _reader(query, params, cursor, read)

    def _queue(self, connection: Connection, cursors: list[psycopg.Cursor[Any]]) -> None:
        for query, params, _, _ in self._pending:
            cursor = connection.cursor(binary=True)
            cursors.append(cursor)
            cursor.execute(query.text, params, prepare=connection.prepare_threshold is not None)

    def _translated(
        self, error: psycopg.Error, connection: Connection, cursors: list[psycopg.Cursor[Any]]
    ) -> RootStreamError:
        # The server answers in order: the statement at fault is the first that has no result.
        done = sum(1 for cursor in cursors if cursor.pgresult is not None)
        write = not connection.in_transaction and not all(query.is_read for query, *_ in self._pending)
        if done == len(self._pending):  # all were fine, and the commit was refused
            return translate(error, write=write, broken=connection.broken)
        query, params, _, _ = self._pending[done]
        return translate(error, file=query.file, params=params, write=write, broken=connection.broken)


def _roll_back(connection: Connection) -> None:
    try:
        connection.rollback()
    except psycopg.Error:
        # Its pipeline could not be ended. The error that is under way tells more, and a closed connection
        # has nothing left to roll back.
        connection.close()


def _reader(
    query: Query[Any], params: dict[str, object], cursor: psycopg.Cursor[Any], read: Callable[..., T]
) -> Callable[[], T]:
    try:
        rows = fetch_rows(cursor, query) if cursor.description else []
    except DatabaseError as error:
        # The batch is applied: the answer that cannot be read says so, and the others can be.
        failure = error

        def fail() -> T:
            raise failure

        return fail
    return lambda: read(query, params, rows, cursor)


def _one(query: Query[R], params: dict[str, object], rows: list[Any], cursor: psycopg.Cursor[Any]) -> R:
    found = _up_to_one(query, params, rows, cursor)
    if not found:
        raise NotFound(query.entity, query.key(params), query=query.file)
    return found[0]


def _maybe(
    query: Query[R], params: dict[str, object], rows: list[Any], cursor: psycopg.Cursor[Any]
) -> R | None:
    found = _up_to_one(query, params, rows, cursor)
    return found[0] if found else None


def _up_to_one(
    query: Query[R], params: dict[str, object], rows: list[Any], cursor: psycopg.Cursor[Any]
) -> list[R]:
    if len(rows) > 1:
        raise TooManyRows(f"at most one row expected, not {len(rows)}", query=query.file)
    return _all(query, params, rows, cursor)


def _all(query: Query[R], _: dict[str, object], rows: list[Any], cursor: psycopg.Cursor[Any]) -> list[R]:
    make = query.make_row(lambda: [column.name for column in cursor.description or ()])
    return [make(row) for row in rows]


def _count(_: Query[Any], __: dict[str, object], ___: list[Any], cursor: psycopg.Cursor[Any]) -> int:
    return cursor.rowcount
