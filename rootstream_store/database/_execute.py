"""Running one query on one connection: parameters checked, rows made into records, errors translated."""

from __future__ import annotations

import itertools
import re
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import msgspec
import psycopg
from psycopg.rows import TupleRow

from rootstream_store._sql_text import line_column
from rootstream_store.database._connection import Connection
from rootstream_store.database._deadline import follow
from rootstream_store.database._prepared import Result, Unprepared, run_prepared
from rootstream_store.database._translate import close_if_useless, translate, undecodable
from rootstream_store.errors import RootStreamError, TooManyRows
from rootstream_store.queries import Query, row_checker

__all__ = [
    "copy_rows",
    "execute",
    "fetch_all",
    "fetch_one",
    "fetch_up_to_one",
    "rows_of",
    "stream_rows",
]

R = TypeVar("R")

_PLACEHOLDER = re.compile(r"%(?:\((\w+)\)s|%)")
_numbers = itertools.count(1)


def execute(connection: Connection, query: Query[Any], params: Mapping[str, object]) -> Result:
    """Runs `query` and returns its result. `params` were checked."""
    try:
        if connection.prepare_threshold is None:  # PgBouncer stands between
            cursor = connection.cursor(binary=True)
            result: Result = Unprepared(cursor.execute(query.text, params, prepare=False))
        else:
            result = run_prepared(connection, query, params)
        if query.may_set_timeout:
            follow(connection)
        return result
    except psycopg.Error as error:
        raise _translated(error, connection, query, params) from error


def fetch_one(connection: Connection, query: Query[R], params: Mapping[str, object]) -> R | None:
    """The one row of `query`, None when there is none. Raises TooManyRows when there are more."""
    found = fetch_up_to_one(connection, query, params)
    return found[0] if found else None


def fetch_up_to_one(connection: Connection, query: Query[R], params: Mapping[str, object]) -> tuple[R, ...]:
    """The one row of `query` or nothing, as a tuple: the value of a row may be None itself. Raises
    TooManyRows."""
    result = execute(connection, query, params)
    try:
        rows = result.rows()
    except _UNREADABLE as error:
        raise _unreadable(error, query) from error
    if not rows:
        return ()
    if len(rows) > 1:
        raise TooManyRows(f"at most one row expected, not {len(rows)}", query=query.file)
    return (query.make_row(result.columns)(rows[0]),)


def fetch_all(connection: Connection, query: Query[R], params: Mapping[str, object]) -> list[R]:
    """All rows of `query`."""
    result = execute(connection, query, params)
    rows = rows_of(result, query)
    make = query.make_row(result.columns)
    return [make(row) for row in rows]


@contextmanager
def stream_rows(
    connection: Connection, query: Query[R], params: Mapping[str, object], size: int
) -> Generator[Iterator[R]]:
    """The rows of `query` from a server-side cursor, `size` at a time; the connection is in a transaction."""
    # A number of its own: one transaction may read the same query twice at once.
    cursor = connection.cursor(name=f"{query.name.replace('/', '_')}_{next(_numbers)}")
    cursor.itersize = size
    try:
        cursor.execute(query.text, params, binary=True)
    except BaseException as error:  # a cancelled thread's or Ctrl-C, too
        _abandon(cursor)
        if isinstance(error, psycopg.Error):
            raise _translated(error, connection, query, params) from error
        raise
    make = query.make_row(lambda: _columns(cursor))

    def rows() -> Iterator[R]:
        # Here and not around the yield below: the block's own errors are none of ours.
        try:
            for row in cursor:
                yield make(row)
        except (RecursionError, msgspec.DecodeError, ValueError) as error:
            raise undecodable(error, file=query.file) from error
        except psycopg.Error as error:
            if _from_a_loader(error):
                raise undecodable(error, file=query.file) from error
            raise _translated(error, connection, query, params) from error

    try:
        yield rows()
    except BaseException:
        _abandon(cursor)
        raise
    try:
        cursor.close()
    except psycopg.Error as error:
        raise _translated(error, connection, query, params) from error


def _abandon(cursor: psycopg.ServerCursor[Any]) -> None:
    # The error that is under way tells more; the end of the transaction closes the cursor anyway.
    with suppress(psycopg.Error):
        cursor.close()


def copy_rows(
    connection: Connection, query: Query[None], rows: Iterable[Sequence[object]], types: Sequence[str]
) -> int:
    """Writes `rows` by the COPY … FROM STDIN (FORMAT binary) of `query`; `types` are the columns' PostgreSQL
    types. Returns how many rows; all or none are written. Raises InvalidInput for a value that does not fit
    its type."""
    check = row_checker(query, types)
    try:
        with connection.cursor() as cursor:
            with cursor.copy(query.text) as copy:
                copy.set_types(types)
                for number, row in enumerate(rows, 1):
                    check(number, row)
                    copy.write_row(row)
            return cursor.rowcount
    except psycopg.Error as error:
        raise _translated(error, connection, query, {}) from error


def rows_of(result: Result, query: Query[Any]) -> list[TupleRow]:
    """The rows of `result`, decoded. Raises DatabaseError for a value that Python cannot hold, and QueryError
    for a statement that has no rows."""
    try:
        return result.rows()
    except _UNREADABLE as error:
        raise _unreadable(error, query) from error


_UNREADABLE = (psycopg.Error, RecursionError, msgspec.DecodeError, ValueError)


def _unreadable(error: Exception, query: Query[Any]) -> RootStreamError:
    if isinstance(error, psycopg.ProgrammingError):  # the statement has no rows
        return translate(error, file=query.file)
    return undecodable(error, file=query.file)


def _from_a_loader(error: psycopg.Error) -> bool:
    # The server's own have an SQLSTATE.
    return isinstance(error, psycopg.DataError) and error.sqlstate is None


def _columns(cursor: psycopg.Cursor[Any] | psycopg.ServerCursor[Any]) -> list[str]:
    return [column.name for column in cursor.description or ()]


def _translated(
    error: psycopg.Error, connection: Connection, query: Query[Any], params: Mapping[str, object]
) -> RootStreamError:
    write = not query.is_read and not connection.in_transaction
    translated = translate(error, file=query.file, params=params, write=write, broken=connection.broken)
    close_if_useless(connection, translated)
    if error.diag.statement_position:
        line, column = line_column(query.text, _offset(query.text, int(error.diag.statement_position) - 1))
        translated.add_note(f"{query.file}, near line {line}, column {column}")
    return translated


def _offset(text: str, sent_offset: int) -> int:
    """Where in the file the character is that the server counted in what psycopg sent: $1 for %(name)s, % for
    %%."""
    numbers: dict[str, int] = {}
    gained = 0
    for match in _PLACEHOLDER.finditer(text):
        if match.start() - gained >= sent_offset:
            break
        sent = f"${numbers.setdefault(match[0], len(numbers) + 1)}" if match[1] else "%"
        gained += len(match[0]) - len(sent)
    return sent_offset + gained
