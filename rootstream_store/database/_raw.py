"""Statements that are in no catalogue, with their rows as JSON: for programs that write their own SQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import generators
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGresult
from psycopg.types.json import Jsonb

from rootstream_store.database._connection import Connection
from rootstream_store.database._deadline import follow
from rootstream_store.database._raw_json import rows_to_json
from rootstream_store.database._translate import close_if_useless, scrub, translate
from rootstream_store.errors import InvalidInput, QueryError
from rootstream_store.queries import may_set_timeout

__all__ = ["RawRows", "run_raw"]

_FINE = (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK, ExecStatus.EMPTY_QUERY)


class RawRows:
    """What a statement answered."""

    def __init__(self, result: PGresult) -> None:
        self._result = result

    @property
    def count(self) -> int:
        """Rows that were answered or changed; 0 for a statement that does neither."""
        if self._result.status == ExecStatus.TUPLES_OK:
            return self._result.ntuples
        return self._result.command_tuples or 0

    def to_json(self) -> bytes:
        """The rows as a JSON array of objects, `[]` where the statement has none."""
        return rows_to_json(self._result)


def run_raw(connection: Connection, sql: str, parameters: Sequence[Any] | None) -> RawRows:
    """Runs `sql` as it stands; not prepared, and never tried again.

    `parameters`: values of $1, $2, …; the text must then be one statement. None: it may be several, of which
    the last one's answer is given. A list or dict goes as JSON. Raises InvalidInput, QueryError and what
    `translate` makes of the server's errors.
    """
    try:
        text = sql.encode()
    except UnicodeEncodeError:
        raise InvalidInput("sql", "must be valid Unicode") from None
    if b"\0" in text:
        raise InvalidInput("sql", "must not contain NUL")
    try:
        if parameters is None:
            connection.pgconn.send_query(text)
        else:
            _send(connection, text, parameters)
        with connection.limited(_limit(connection, sql)):
            results: list[PGresult] = connection.wait(generators.execute(connection.pgconn))
        for result in results:
            if result.status == ExecStatus.FATAL_ERROR:
                raise error_from_result(result, encoding="utf-8")
        if may_set_timeout(sql):
            follow(connection)
    except psycopg.errors.ProtocolViolation as error:
        # Another number of values than the statement has placeholders: the connection is well.
        raise QueryError(scrub(error), sqlstate=error.sqlstate) from error
    except psycopg.Error as error:
        translated = translate(error, write=True, broken=connection.broken)
        close_if_useless(connection, translated)
        raise translated from error
    if any(result.status not in _FINE for result in results):
        connection.close()  # it waits for the data of a COPY that nobody sends
        raise QueryError("COPY from or to the client is no statement for this function")
    return RawRows(results[-1])


def _limit(connection: Connection, sql: str) -> float | None:
    # The limit is one statement's, and all of them are answered at once: there are as many as semicolons, at
    # most.
    if connection.limit is None or may_set_timeout(sql):
        return None
    return connection.limit * (1 + sql.rstrip("; \n").count(";"))


def _send(connection: Connection, text: bytes, parameters: Sequence[Any]) -> None:
    transformer = Transformer(connection)
    values = [_checked(number, value) for number, value in enumerate(parameters, 1)]
    dumped = transformer.dump_sequence(values, [PyFormat.AUTO] * len(values))
    connection.pgconn.send_query_params(
        text, dumped, param_types=transformer.types, param_formats=transformer.formats
    )


def _checked(number: int, value: Any) -> Any:
    if isinstance(value, str) and "\0" in value:
        raise InvalidInput(f"${number}", "must be text without NUL")
    if type(value) is int and not -(2**63) <= value < 2**63:
        raise InvalidInput(f"${number}", "must be an integer from -2^63 to 2^63-1")
    return Jsonb(value) if isinstance(value, list | dict) else value
