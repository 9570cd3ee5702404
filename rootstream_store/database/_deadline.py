"""How long this side waits for an answer: the server's own limits are no help while it is frozen.

A server process that is stopped, or a host that hangs behind a proxy, acknowledges what it is sent and never
answers: statement_timeout cannot fire there, and TCP sees nothing wrong. So each wait for the server ends at
the connection's `limit`, after which the connection is closed: nobody knows what the server still does.
psycopg counts the time while it waits, in C; there is no thread, nothing to hand over to a fork, and no
moment at which another call's wait could be ended in place of the one that was meant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg

from rootstream_store.queries import query
from rootstream_store.settings import Settings

if TYPE_CHECKING:
    from rootstream_store.database._connection import Connection

__all__ = ["GRACE", "NotAnswered", "follow", "give_up", "limit_waits", "settle"]

GRACE = 5.0
"""Seconds after statement_timeout: the server's own error is told before this side gives up."""

_GET_STATEMENT_TIMEOUT = query("health/get_statement_timeout", float)


class NotAnswered(psycopg.OperationalError):
    """The server did not answer within the connection's limit. The connection is closed."""


def give_up(connection: Connection) -> NotAnswered:
    """The error to raise when the limit has passed; closes the connection."""
    # What is left for the pool is a connection that was lost.
    connection.pgconn.finish()
    return NotAnswered(f"the server did not answer within {connection.limit:g} s, and this side gave up")


def limit_waits(connection: Connection, settings: Settings, *, ask: bool) -> None:
    """Sets the limit of a new connection. `ask`: its statement_timeout is not the one of `settings`. Raises
    psycopg's errors."""
    if settings.answer_timeout is not None:
        connection.limit = settings.answer_timeout or None
        return
    connection.follows = True
    if ask:
        connection.limit = float(settings.connect_timeout)
        connection.limit = _read(connection)
    else:
        connection.limit = _with_grace(settings.statement_timeout)


def follow(connection: Connection) -> None:
    """Reads statement_timeout after a statement that may have changed it. Raises psycopg's errors."""
    if not connection.follows:
        return
    limit = _read(connection)
    if connection.in_transaction:
        # The end of the transaction, or of a savepoint, may take it back.
        connection.is_limit_passing = True
        if limit is not None and (connection.limit is None or limit < connection.limit):
            return
    connection.limit = limit


def settle(connection: Connection) -> None:
    """Reads statement_timeout when the transaction that may have changed it has ended."""
    connection.is_limit_passing = False
    if connection.closed or connection.in_transaction:
        return
    try:
        connection.limit = _read(connection)
    except psycopg.Error:
        # The transaction's own end was fine: only the connection is of no use any more.
        connection.close()


def _read(connection: Connection) -> float | None:
    text: Any = _GET_STATEMENT_TIMEOUT.text
    row = connection.execute(text, prepare=False, binary=True).fetchone()
    assert row is not None  # it has no FROM
    return _with_grace(row[0])


def _with_grace(statement_timeout: float) -> float | None:
    return statement_timeout + GRACE if statement_timeout else None
