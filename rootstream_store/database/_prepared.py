"""One prepared statement in one round trip, on libpq itself.

Values go through psycopg's own adapters and the wait is psycopg's own, so that types, errors and Ctrl-C are
as with a cursor. Left out is what a cursor does besides: it looks for placeholders, decides whether to
prepare and keeps a state for later fetches, which takes half of the processor time of a short call.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import psycopg
from psycopg import generators
from psycopg.abc import Transformer
from psycopg.adapt import PyFormat
from psycopg.errors import _WaitTimeout, error_from_result
from psycopg.pq import ExecStatus, Format
from psycopg.pq.abc import PGresult

from rootstream_store.database._connection import WAKE_UP, Connection
from rootstream_store.database._deadline import give_up
from rootstream_store.queries import Query

__all__ = ["Exchange", "Prepared", "Result", "Unprepared", "exchange_by", "run_prepared", "typed"]

Row = tuple[Any, ...]

_TUPLES, _DONE, _FAILED = ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK, ExecStatus.FATAL_ERROR
_FINE = (_TUPLES, _DONE)
_ANSWERS = (*_FINE, _FAILED)
_BINARY = Format.BINARY
_execute = generators.execute
_INT8 = 20
_NOT_SENT, _ANSWERED, _LOST, _TOO_LATE = 0, 2, 3, 4
"""What Exchange.send returns."""
_MOST_PREPARED = 1000
"""More than there are queries: who makes queries at run time must not fill the server's memory."""


@functools.cache
def _formats(count: int) -> list[PyFormat]:
    return [PyFormat.AUTO] * count


class Result(Protocol):
    """What one statement answered; its rows are decoded when they are asked for."""

    @property
    def count(self) -> int:
        """Rows that were answered or changed; -1 for a statement that does neither."""

    def columns(self) -> list[str]:
        """The names of the columns."""

    def rows(self) -> list[Row]:
        """All rows. Raises psycopg's errors for values that Python cannot hold, ProgrammingError for a
        statement that has none."""


class Unprepared:
    """The result that a cursor holds."""

    __slots__ = ("_cursor",)

    def __init__(self, cursor: psycopg.Cursor[Row]) -> None:
        self._cursor = cursor

    @property
    def count(self) -> int:
        return self._cursor.rowcount

    def columns(self) -> list[str]:
        return [column.name for column in self._cursor.description or ()]

    def rows(self) -> list[Row]:
        return self._cursor.fetchall()


class Prepared:
    """The result of a prepared statement."""

    __slots__ = ("_result", "_transformer")

    def __init__(self, result: PGresult, transformer: Transformer) -> None:
        self._result = result
        self._transformer = transformer

    @property
    def has_rows(self) -> bool:
        """Whether the statement answers with rows, be it none."""
        return self._result.status == _TUPLES

    @property
    def count(self) -> int:
        """As Result's."""
        if self._result.status == _TUPLES:
            return self._result.ntuples
        tuples = self._result.command_tuples
        return -1 if tuples is None else tuples

    def columns(self) -> list[str]:
        """As Result's."""
        return [(self._result.fname(number) or b"").decode() for number in range(self._result.nfields)]

    def rows(self) -> list[Row]:
        """As Result's."""
        if self._result.status != _TUPLES:
            raise psycopg.ProgrammingError("the last operation didn't produce records")
        transformer = self._transformer
        transformer.set_pgresult(self._result)
        try:
            return transformer.load_rows(0, self._result.ntuples, tuple)
        finally:
            transformer.set_pgresult(None)  # a large result must not stay in memory until the next call


class Exchange(Protocol):
    """libpq without psycopg around it; a connection goes by its address."""

    def send(
        self,
        connection: int | None,
        name: bytes,
        values: Sequence[Any],
        formats: Sequence[Format] | None,
        limit: float | None,
    ) -> int:
        """Sends a prepared statement and waits for its answer, which no Ctrl-C ends, but for at most `limit`
        seconds. 0: nothing was sent, 1: no answer yet, 2: it is there, 3: the connection was lost, 4: none
        came within the limit."""

    def is_busy(self, connection: int | None) -> bool:
        """Whether the next result is still to come."""


_exchange: Exchange | None = None


def exchange_by(exchange: Exchange | None) -> None:
    """Has statements sent by `exchange` from now on, in all threads. None: by psycopg."""
    global _exchange
    _exchange = exchange


def run_prepared(connection: Connection, query: Query[Any], params: Mapping[str, object]) -> Result:
    """Runs `query`, prepared on `connection` when it comes for the first time. `params` were checked. Raises
    psycopg's errors."""
    transformer = connection.transformer
    values = transformer.dump_sequence([params[name] for name in query.parameters], _formats(len(params)))
    name, types = query.statement_name, None
    if query.casts_numbers:
        name, types = typed(name, transformer)
    formats = transformer.formats
    if name not in connection.prepared:
        _prepare(connection, query, name, types)
    try:
        return Prepared(_send(connection, name, values, formats), transformer)
    except psycopg.errors.InvalidSqlStatementName:
        # Somebody said DISCARD ALL or DEALLOCATE ALL. Inside a transaction the error has ended it already.
        connection.prepared.clear()
        if connection.in_transaction:
            raise
    _prepare(connection, query, name, types)
    return Prepared(_send(connection, name, values, formats), transformer)


def typed(name: bytes, transformer: Transformer) -> tuple[bytes, list[int]]:
    """Of a statement that casts a number: its name, and the types to prepare it with, for the values that
    were just dumped."""
    # An int goes out as int8 whatever the cast: the server must be told, or it would read another number.
    types = [_INT8 if type_ == _INT8 else 0 for type_ in transformer.types or ()]
    return name + b"_" + bytes(ord("i") if type_ else ord("x") for type_ in types), types


def _prepare(connection: Connection, query: Query[Any], name: bytes, types: Sequence[int] | None) -> None:
    if len(connection.prepared) >= _MOST_PREPARED:
        connection.execute("DEALLOCATE ALL", prepare=False)
        connection.prepared.clear()
    try:
        # Without types of ours the server takes them from the casts.
        connection.pgconn.send_prepare(name, query.sent_text, param_types=types)
        _wait(connection)
        connection.prepared.add(name)
    except psycopg.errors.DuplicatePreparedStatement:
        # Somebody dropped another one by name, and all were taken for lost: this one is there.
        connection.prepared.add(name)
        if connection.in_transaction:  # the error has ended it
            raise
    except psycopg.Error:
        raise
    except BaseException:
        # Interrupted: nobody knows whether the server has it now, and it refuses a name that it has.
        connection.close()
        raise


def _send(
    connection: Connection, name: bytes, values: Sequence[Any], formats: Sequence[Format] | None
) -> PGresult:
    pgconn: Any = connection.pgconn  # its type does not tell of pgconn_ptr
    exchange = _exchange
    if exchange is None:
        outcome = _NOT_SENT
    else:
        outcome = exchange.send(pgconn.pgconn_ptr, name, values, formats, connection.limit)
        if outcome == _ANSWERED:
            return _first(_collect(connection, exchange))
    if outcome == _TOO_LATE:
        raise give_up(connection)
    if outcome == _LOST:
        raise psycopg.OperationalError(f"no answer can be read: {pgconn.get_error_message()}")
    if outcome == _NOT_SENT:  # psycopg does it, or tells why it cannot be done
        pgconn.send_query_prepared(name, values, param_formats=formats, result_format=_BINARY)
    return _wait(connection)


def _collect(connection: Connection, exchange: Exchange) -> list[PGresult]:
    """All results, of which the first is there; psycopg waits for those that are not."""
    pgconn: Any = connection.pgconn
    results: list[PGresult] = []
    while (result := pgconn.get_result()) is not None:
        results.append(result)
        if result.status not in _ANSWERS:  # a COPY, which has no end before it has begun
            break
        if exchange.is_busy(pgconn.pgconn_ptr):
            try:
                results += connection.wait(generators.fetch_many(pgconn))
            except psycopg.DatabaseError:
                if result.status != _FAILED:  # with which the server ends a connection
                    raise
            break
    return results


def _wait(connection: Connection) -> PGresult:
    # Past the method of Connection: its limit is given here, without the cost of one more call.
    try:
        results: list[PGresult] = connection.wait_within(
            _execute(connection.pgconn), WAKE_UP, connection.limit
        )
    except _WaitTimeout:
        raise give_up(connection) from None
    return _first(results)


def _first(results: list[PGresult]) -> PGresult:
    # All of them: the server answers before it commits, and what the commit meets comes after the rows.
    for result in results:
        status = result.status
        if status == _FAILED:
            raise error_from_result(result, encoding="utf-8")
        if status not in _FINE:
            name = ExecStatus(status).name
            raise psycopg.ProgrammingError(f"a statement that answers with {name} is no query")
    return results[0]
