"""Many prepared statements in one round trip, on libpq itself.

libpq's pipeline takes all of them before the first is answered. psycopg's own pipeline needs a cursor for
each, which costs more than twice as much; the statements here are those that single calls have prepared on
the connection.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import psycopg
from psycopg import generators
from psycopg.abc import PQGen
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus, Format
from psycopg.pq.abc import PGconn, PGresult
from psycopg.waiting import READY_R, WAIT_RW

from rootstream_store.database import _prepared
from rootstream_store.database._connection import Connection
from rootstream_store.database._deadline import follow
from rootstream_store.database._prepared import Prepared, typed
from rootstream_store.queries import Query

__all__ = ["Together"]

_BEGIN, _COMMIT = b"BEGIN", b"COMMIT"
_SAVEPOINT, _RELEASE = b"SAVEPOINT rootstream_batch", b"RELEASE SAVEPOINT rootstream_batch"
_ROLL_BACK_TO = "ROLLBACK TO SAVEPOINT rootstream_batch; RELEASE SAVEPOINT rootstream_batch"

_TUPLES, _DONE, _FAILED = ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK, ExecStatus.FATAL_ERROR
_SYNC = ExecStatus.PIPELINE_SYNC
_BINARY = Format.BINARY
_fetch = generators.fetch

_Step = tuple[int, bytes | None]
"""The number of a statement, and the name with which it is prepared in this step. None: it runs."""
_CONTROL = b""
"""In place of a name: begins or ends all of it."""


class _Bound(NamedTuple):
    """A statement with its values, as libpq takes it; without a name where nothing is prepared."""

    name: bytes
    text: bytes
    types: Sequence[int] | None
    values: Sequence[Any]
    formats: Sequence[Format] | None


_CANCEL_WAIT = 5.0
"""Seconds."""


class Together:
    """Statements in one round trip on one connection: in a transaction of their own, or in a savepoint where
    one is open. All or none is applied."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.at = 0
        """The number of the statement at fault when `run` raises; of none: how many there are, and what was
        refused is the commit."""

    def run(self, statements: Sequence[tuple[Query[Any], Mapping[str, object]]]) -> list[Prepared]:
        """What each statement answered, in order; their parameters were checked. Raises psycopg's errors:
        nothing was applied then, unless the connection was lost."""
        connection = self._connection
        bound = self._bind(statements)
        changes_limit = any(query.may_set_timeout for query, _ in statements)
        is_cleared = False
        while True:
            try:
                with connection.limited(None if changes_limit else connection.limit):
                    results = self._exchange(bound)
            except psycopg.errors.DuplicatePreparedStatement:
                # Somebody dropped another one by name, and all were taken for lost: this one is there.
                self._roll_back()
                connection.prepared.add(bound[self.at].name)
            except psycopg.errors.InvalidSqlStatementName:
                # Somebody said DISCARD ALL or DEALLOCATE ALL. A statement of this batch would do so again.
                self._roll_back()
                connection.prepared.clear()
                if is_cleared:
                    raise
                is_cleared = True
            except psycopg.Error:
                self._roll_back()
                raise
            else:
                break
        if changes_limit:
            follow(connection)
        return [Prepared(result, connection.transformer) for result in results]

    def _bind(self, statements: Sequence[tuple[Query[Any], Mapping[str, object]]]) -> list[_Bound]:
        transformer = self._connection.transformer
        is_prepared = self._connection.prepare_threshold is not None  # else PgBouncer stands between
        bound = []
        for self.at, (query, params) in enumerate(statements):
            values = transformer.dump_sequence(
                [params[name] for name in query.parameters], _prepared._formats(len(params))
            )
            name: bytes = query.statement_name
            types: Sequence[int] | None = None
            if not is_prepared:
                name, types = b"", transformer.types
            elif query.casts_numbers:
                name, types = typed(name, transformer)
            bound.append(_Bound(name, query.sent_text, types, values, transformer.formats))
        return bound

    def _exchange(self, bound: list[_Bound]) -> list[PGresult]:
        connection = self._connection
        self.at = 0
        if len(connection.prepared) + len(bound) > _prepared._MOST_PREPARED:
            connection.execute("DEALLOCATE ALL", prepare=False)
            connection.prepared.clear()
        pgconn = connection.pgconn
        try:
            pgconn.enter_pipeline_mode()
            steps = self._send(bound)
            while pgconn.flush():
                connection.wait(_send_some(pgconn))
            results, failed = self._receive(steps)
            pgconn.exit_pipeline_mode()
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                # Between two waits: in one, psycopg has told the server to stop already.
                connection._try_cancel(timeout=_CANCEL_WAIT)
            # Nobody could tell what is still to be answered from the answers to what comes next.
            connection.close()
            raise
        if failed is not None:
            raise error_from_result(failed, encoding="utf-8")
        return results

    def _send(self, bound: list[_Bound]) -> list[_Step]:
        """Puts all into libpq's buffer, which takes whatever it is given. Returns what will be answered."""
        connection, pgconn = self._connection, self._connection.pgconn
        there = set(connection.prepared)
        steps: list[_Step] = [(0, _CONTROL)]
        pgconn.send_query_params(_SAVEPOINT if connection.in_transaction else _BEGIN, None)
        for number, (name, text, types, values, formats) in enumerate(bound):
            if not name:
                pgconn.send_query_params(
                    text, values, param_types=types, param_formats=formats, result_format=_BINARY
                )
            else:
                if name not in there:
                    there.add(name)
                    pgconn.send_prepare(name, text, param_types=types)
                    steps.append((number, name))
                pgconn.send_query_prepared(name, values, param_formats=formats, result_format=_BINARY)
            if connection.limit is not None:
                # Else the server keeps its answers until the end, and a long batch looks like a frozen one.
                pgconn.send_flush_request()
            steps.append((number, None))
        pgconn.send_query_params(_RELEASE if connection.in_transaction else _COMMIT, None)
        steps.append((len(bound), _CONTROL))
        pgconn.pipeline_sync()
        return steps

    def _receive(self, steps: list[_Step]) -> tuple[list[PGresult], PGresult | None]:
        """What the statements answered, and the answer that refused one of them."""
        prepared = self._connection.prepared
        results: list[PGresult] = []
        failed: PGresult | None = None
        for number, name in steps:
            if failed is None:
                self.at = number
            result = self._next()
            if failed is not None:
                continue
            status = result.status
            if status in (_TUPLES, _DONE):
                if name is None:
                    results.append(result)
                elif name:
                    prepared.add(name)
            elif status == _FAILED:
                failed = result
            else:
                raise psycopg.ProgrammingError(
                    f"a statement that answers with {ExecStatus(status).name} is no query"
                )
        if self._next().status != _SYNC:
            raise psycopg.OperationalError("the session was ended before it confirmed the batch")
        return results, failed

    def _next(self) -> PGresult:
        connection, pgconn = self._connection, self._connection.pgconn
        for _ in range(2):  # None is the end of what one statement answers
            result = connection.wait(_fetch(pgconn)) if pgconn.is_busy() else pgconn.get_result()
            if result is not None:
                return result
        raise psycopg.OperationalError("the connection was lost")

    def _roll_back(self) -> None:
        connection = self._connection
        if connection.closed:
            return
        if connection.in_transaction:
            # Without its savepoint the transaction has failed before, and its end says so.
            with suppress(psycopg.Error):
                connection.execute(_ROLL_BACK_TO, prepare=False)
            return
        try:
            connection.rollback()
        except psycopg.Error:
            # The error that is under way tells more, and a closed connection has nothing to roll back.
            connection.close()


def _send_some(pgconn: PGconn) -> PQGen[None]:
    while not (ready := (yield WAIT_RW)):
        continue
    if ready & READY_R:  # the server may wait for that before it takes more
        pgconn.consume_input()
