"""From psycopg's errors to ours, at one place, by SQLSTATE and constraint name and never by message text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg.errors import FinishedPGconn
from psycopg.pq import DiagnosticField

from rootstream_store import errors
from rootstream_store._rules import RULES
from rootstream_store.database._deadline import NotAnswered
from rootstream_store.secret import SECRET_NAMES
from rootstream_store.settings import redact

__all__ = ["READ_ONLY", "close_if_useless", "connection_error", "scrub", "translate", "undecodable"]

# Tables by what a person calls one row of them; the key is how constraint names begin.
_ENTITIES = {
    "users": "user",
    "sessions": "session",
    "stream_sessions": "stream session",
    "streams": "stream",
    "recordings": "recording",
    "usage_logs": "usage log",
    "billing_accounts": "billing account",
    "aggregates": "aggregate",
    "event_log": "event",
    "snapshots": "snapshot",
    "subscriptions": "subscription",
    "subscription_members": "subscription member",
    "parked_events": "parked event",
    "cache_invalidations": "cache invalidation",
    "queue_writers": "queue writer",
    "rejected_events": "rejected event",
}
# What a foreign key points at, where its column does not say so.
_TARGETS = {"recordings_session_id_fkey": "stream session"}
READ_ONLY = "25006"
_NOT_SUPPORTED = "0A000"
# The server's function that says "cached plan must not change result type": a name that is never translated.
_STALE_PLAN = "RevalidateCachedQuery"
_TOO_MUCH = {"53200": "memory", "53100": "disk space", "53300": "connections"}
# What may be told of a server's error. DETAIL and CONTEXT show whole rows and parameters, password hashes
# among them.
_TOLD = (
    DiagnosticField.SEVERITY,
    DiagnosticField.SEVERITY_NONLOCALIZED,
    DiagnosticField.SQLSTATE,
    DiagnosticField.MESSAGE_PRIMARY,
    DiagnosticField.MESSAGE_HINT,
    DiagnosticField.STATEMENT_POSITION,
    DiagnosticField.SCHEMA_NAME,
    DiagnosticField.TABLE_NAME,
    DiagnosticField.COLUMN_NAME,
    DiagnosticField.DATATYPE_NAME,
    DiagnosticField.CONSTRAINT_NAME,
)


def scrub(error: psycopg.Error) -> str:
    """Takes out of `error` what may show a row or a password, and returns its message."""
    info: Any = error._info
    if info is not None:
        message = redact(error.diag.message_primary or type(error).__name__)
        read = info.get if isinstance(info, dict) else info.error_field
        # psycopg's pickled form of the server's answer, which lives on without the answer.
        error._info = {int(field): read(field) if field in _TOLD else None for field in DiagnosticField}
    else:
        message = redact((str(error).strip().splitlines() or [type(error).__name__])[0])
    error.args = (message,)
    return message


def translate(
    error: psycopg.Error,
    *,
    file: str | None = None,
    params: Mapping[str, object] | None = None,
    write: bool = False,
    broken: bool = False,
) -> errors.RootStreamError:
    """The error to raise in place of `error`; raise it `from error`, from which secrets are taken out.

    `file` is the query file that was running, `write` whether it may have changed anything, `broken` whether
    the connection was lost with it.
    """
    params = params or {}
    state = error.sqlstate
    diag = error.diag
    stale = state == _NOT_SUPPORTED and diag.source_function == _STALE_PLAN
    message = scrub(error)
    where: dict[str, Any] = {"sqlstate": state, "query": file}
    if stale:
        # The server refused it before it ran.
        return errors.Unavailable(
            f"a table was altered, and this connection must be made anew: {message}", **where
        )
    if isinstance(error, NotAnswered):
        # Retryable both, but no call waits for a second time by itself.
        if write:
            return errors.Unavailable(message, outcome_unknown=True, **where)
        return errors.Timeout(message, **where)
    if diag.constraint_name:
        where["constraint"] = re.sub(r"_\d{5,}$", "", diag.constraint_name)  # Citus adds the shard's number

    result = _constraint(state, where, params, diag.column_name, diag.table_name)
    if result is None and state is not None:
        result = _by_state(state, message, where, write=write)
    if result is None and (broken or (state is None and isinstance(error, psycopg.OperationalError))):
        result = errors.Unavailable(f"connection lost: {message}", outcome_unknown=write, **where)
    if result is None and state is None and isinstance(error, psycopg.DataError):
        result = errors.InvalidInput("value", message, **where)
    if result is None and state is None and isinstance(error, psycopg.ProgrammingError):
        result = errors.QueryError(message, **where)
    return result or errors.DatabaseError(message, **where)


def undecodable(error: Exception, *, file: str | None) -> errors.DatabaseError:
    """The error to raise for a row that Python cannot hold, such as a year above 9999 or JSON nested too
    deeply: the row is at fault, not what the caller gave."""
    if isinstance(error, psycopg.Error):
        reason = scrub(error)
    else:
        reason = f"{type(error).__name__}: {redact((str(error).splitlines() or [''])[0])}"
    return errors.DatabaseError(f"a row cannot be read: {reason}", query=file)


def close_if_useless(connection: psycopg.Connection[Any], error: errors.RootStreamError) -> None:
    """Closes a connection that would answer with `error` for ever: of a demoted primary, or with a statement
    prepared for a table that has changed. The pool opens another instead."""
    if isinstance(error, errors.Unavailable) and error.sqlstate in (READ_ONLY, _NOT_SUPPORTED):
        connection.close()


def connection_error(error: psycopg.Error, url: str) -> errors.RootStreamError:
    """The error to raise when no connection to `url` could be made."""
    reason = " ".join(redact(str(error)).split()).rstrip(".")
    message = f"cannot reach {redact(url)}: {reason}"
    needs_password = getattr(error.pgconn, "needs_password", False)
    _forget_password(error)
    # libpq keeps the SQLSTATE of a refused login to itself; only where the server speaks another language
    # this is not recognised, and the refusal is then told as Unavailable.
    if needs_password or _REFUSED.search(reason):
        return errors.PermissionDenied(message, sqlstate=error.sqlstate)
    if _WRONG.search(reason):
        return errors.SettingsError(message, sqlstate=error.sqlstate)
    return errors.Unavailable(message, sqlstate=error.sqlstate)


def _forget_password(error: psycopg.Error) -> None:
    """The error stays as the cause of ours, and the connection that failed would show its password there."""
    pgconn = error.pgconn
    if pgconn is not None:
        pgconn.finish()
    if isinstance(pgconn, FinishedPGconn):
        pgconn.password, pgconn.info = b"", []


_REFUSED = re.compile(
    r"FATAL: (\w+ authentication failed|no pg_hba\.conf entry|permission denied"
    r'|pg_hba\.conf rejects|role "[^"]*" (does not exist|is not permitted to log in))'
)
_WRONG = re.compile(
    r'FATAL: (database "[^"]*" does not exist|invalid value for parameter|unrecognized configuration)'
)


def _constraint(
    state: str | None,
    where: dict[str, Any],
    params: Mapping[str, object],
    column: str | None,
    table: str | None,
) -> errors.RootStreamError | None:
    constraint = where.get("constraint")
    if state == "23502":
        return errors.InvalidInput(column or "value", "must not be null", **where)
    if not constraint:
        return None
    entity, field = _split(constraint, table)
    if state == "23505":
        field = "id" if field == "pkey" else field.removesuffix("_key")
        return errors.AlreadyExists(entity, field, _told(field, params), **where)
    if state == "23503":
        field = field.removesuffix("_fkey")
        key = {field: params[field]} if field in params else None
        return errors.NotFound(_TARGETS.get(constraint, field.removesuffix("_id")), key, **where)
    if state in ("23514", "23P01"):
        field = field.rpartition("_")[0]
        rule = RULES.get(constraint, f"breaks the rule {constraint}")
        return errors.InvalidInput(field or constraint, rule, _told(field, params), **where)
    return None


def _told(field: str, params: Mapping[str, object]) -> object:
    return None if field in SECRET_NAMES else params.get(field)


def _split(constraint: str, table: str | None) -> tuple[str, str]:
    """("user", "email_format") of users_email_format. An index of a partition is named for the partition, a
    check for the table: both say what the table's own would."""
    if table:
        table = re.sub(r"_\d{5,}$", "", table)
    known = [name for name in _ENTITIES if f"{table or constraint}_".startswith(f"{name}_")]
    name = max(known, key=len, default=None)
    for prefix in (table, name):
        if prefix and constraint.startswith(f"{prefix}_"):
            return _ENTITIES.get(name or prefix, prefix), constraint[len(prefix) + 1 :]
    return _ENTITIES.get(name or "", table or "row"), constraint


def _by_state(
    state: str, message: str, where: dict[str, Any], *, write: bool
) -> errors.RootStreamError | None:
    kind = state[:2]
    if state in ("40001", "40P01"):
        conflict = errors.Conflict(f"another transaction came first: {message}", **where)
        conflict.retryable = True
        return conflict
    if state in ("57014", "55P03", "25P03", "25P04"):
        return errors.Timeout(message, **where)
    if kind == "57":
        # The server itself says that it ended the session before the statement was done: nothing was applied.
        return errors.Unavailable(message, **where)
    if kind == "08" or state == "40003":
        # From a pooler or a node in between, which cannot know how far the statement came.
        return errors.Unavailable(message, outcome_unknown=write, **where)
    if state == READ_ONLY:
        return errors.Unavailable(f"the server is read-only, no longer the primary: {message}", **where)
    if kind == "53":
        return errors.Unavailable(
            f"the server is out of {_TOO_MUCH.get(state, 'resources')}: {message}", **where
        )
    if state == "42501" or kind == "28":
        return errors.PermissionDenied(message, **where)
    if kind == "22":
        return errors.InvalidInput("value", message, **where)
    if kind in ("42", "26", "34"):
        error = errors.QueryError(message, **where)
        if state in ("42P01", "42883"):  # no such table, no such function
            error.add_note("is the database migrated? rootstream-store migrate status")
        return error
    if state == "25P02":
        return errors.Conflict("the transaction has failed before and accepts nothing but its end", **where)
    return None
