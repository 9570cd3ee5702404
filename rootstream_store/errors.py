"""Every failure that leaves this library, one class per kind of remedy.

All derive from RootStreamError. Each carries what a caller needs to decide what to do next: `retryable` (can
the same call, unchanged, succeed later), and where there is one the `sqlstate` (PostgreSQL manual, appendix
A), the `constraint` that refused the row and the `query` file that was running. Errors can be pickled, their
cause with them; a value in them that is no plain one is then its short text.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import ipaddress
import reprlib
import uuid
from typing import Any

__all__ = [
    "AlreadyExists",
    "AuthenticationFailed",
    "Conflict",
    "DatabaseError",
    "InvalidInput",
    "MigrationError",
    "NotFound",
    "PermissionDenied",
    "QueryError",
    "RootStreamError",
    "SettingsError",
    "StoreClosed",
    "Timeout",
    "TooManyRows",
    "Unavailable",
    "VersionConflict",
]


class RootStreamError(Exception):
    """Base of every error of this library.

    `retryable` is True when the same call may succeed later with nothing changed. `sqlstate`, `constraint`
    and `query` are None where PostgreSQL, a constraint or a query file had no part in it.
    """

    retryable: bool = False

    def __init__(
        self,
        message: str,
        *,
        sqlstate: str | None = None,
        constraint: str | None = None,
        query: str | None = None,
    ) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate
        self.constraint = constraint
        self.query = query

    @property
    def message(self) -> str:
        """What was wrong, in one line, without the query file."""
        return str(self.args[0])

    def __str__(self) -> str:
        return f"{self.message} (in {self.query})" if self.query else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        # Exception's own reduce calls cls(*args), which does not fit classes with more parameters, and drops
        # the cause.
        # What callers gave (values, keys) may be anything, a lock or an open file.
        state = {name: _plain(value) for name, value in self.__dict__.items()}
        return _rebuild, (type(self), self.args, state, self.__cause__)


def _rebuild(
    cls: type[RootStreamError], args: tuple[Any, ...], state: dict[str, Any], cause: BaseException | None
) -> RootStreamError:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    error.__cause__ = cause
    return error


class NotFound(RootStreamError):
    """No row has this key. `entity` is the kind of thing ("user"), `key` what was looked for."""

    def __init__(self, entity: str, key: dict[str, object] | None = None, **details: str | None) -> None:
        self.entity = entity
        self.key = dict(key or {})
        wanted = ", ".join(f"{name}={_short(value)}" for name, value in self.key.items())
        super().__init__(f"no {entity} with {wanted}" if wanted else f"no such {entity}", **details)


class TooManyRows(RootStreamError):
    """A query that answers with at most one row answered with more: the query is wrong, not the data."""


class AlreadyExists(RootStreamError):
    """A unique value is taken. `field` names it; `value` is what was given, None where it is secret."""

    def __init__(self, entity: str, field: str, value: object = None, **details: str | None) -> None:
        self.entity = entity
        self.field = field
        self.value = value
        given = f"={_short(value)}" if value is not None else ""
        super().__init__(f"{entity} with {field}{given} already exists", **details)


class InvalidInput(RootStreamError):
    """A value breaks a rule. `field` names the value, `rule` says what holds for it."""

    def __init__(self, field: str, rule: str, value: object = None, **details: str | None) -> None:
        self.field = field
        self.rule = rule
        self.value = value
        given = f", not {_short(value)}" if value is not None else ""
        super().__init__(f"{field}: {rule}{given}", **details)


class Conflict(RootStreamError):
    """The state of the row does not allow this (a live stream started again), or another writer came first.

    Retryable only where another transaction was in the way (SQLSTATE 40001, 40P01).
    """


class VersionConflict(Conflict):
    """An aggregate is not at the version the append expected.

    `expected` is the version or mode that was asked for, `actual` the version found (0: no event yet).
    """

    def __init__(
        self,
        aggregate_type: str,
        aggregate_id: str,
        expected: object,
        actual: int | None,
        **details: str | None,
    ) -> None:
        self.aggregate_type = aggregate_type
        self.aggregate_id = aggregate_id
        self.expected = expected
        self.actual = actual
        super().__init__(
            f"{aggregate_type} {aggregate_id!r} is at version {actual}, expected {expected}", **details
        )


class AuthenticationFailed(RootStreamError):
    """Unknown user, wrong password, or a token that is unknown, expired or revoked. Never says which."""


class PermissionDenied(RootStreamError):
    """The database role, or the user's state, does not allow this."""


class Unavailable(RootStreamError):
    """A server cannot be reached, is shutting down or lost the connection.

    `outcome_unknown` is True when the connection was lost after a write was sent: it may have been applied,
    so only an idempotent write may be repeated, and `retryable` is then False.
    """

    retryable = True

    def __init__(self, message: str, *, outcome_unknown: bool = False, **details: str | None) -> None:
        super().__init__(message, **details)
        self.outcome_unknown = outcome_unknown
        if outcome_unknown:
            self.retryable = False


class Timeout(RootStreamError):
    """A pool, a lock or a statement took longer than its limit. Nothing was applied."""

    retryable = True


class StoreClosed(RootStreamError):
    """The store, or the transaction, was already closed."""


class SettingsError(RootStreamError):
    """A setting is missing or has a value that cannot work. Names the setting, never a password."""


class QueryError(RootStreamError):
    """A query file is missing, is not one statement, or was called with other parameters than it has."""


class MigrationError(RootStreamError):
    """A migration cannot be applied. `file` names it; `line` and `column` (from 1) where the SQL is at
    fault."""

    def __init__(
        self,
        message: str,
        *,
        file: str | None = None,
        line: int | None = None,
        column: int | None = None,
        **details: str | None,
    ) -> None:
        self.file = file
        self.line = line
        self.column = column
        place = ":".join(str(part) for part in (file, line, column) if part is not None)
        super().__init__(f"{place}: {message}" if place else message, **details)


class DatabaseError(RootStreamError):
    """PostgreSQL refused a statement for a reason that has no class of its own; `sqlstate` tells."""


_PLAIN = frozenset(
    {
        type(None),
        bool,
        int,
        float,
        str,
        bytes,
        datetime.date,
        datetime.datetime,
        datetime.time,
        datetime.timedelta,
        decimal.Decimal,
        uuid.UUID,
        ipaddress.IPv4Address,
        ipaddress.IPv6Address,
    }
)


def _plain(value: object, depth: int = 3) -> object:
    """`value`, or its short text where pickling might fail on it."""
    if type(value) in _PLAIN or isinstance(value, enum.Enum):
        return value
    if depth and type(value) is dict:
        return {_plain(key, 0): _plain(inner, depth - 1) for key, inner in value.items()}
    if depth and type(value) is list:
        return [_plain(inner, depth - 1) for inner in value]
    if depth and type(value) is tuple:
        return tuple(_plain(inner, depth - 1) for inner in value)
    return _short(value)


# Python refuses to write an integer of more than 4300 digits, and nobody wants to read one.
_MOST_BITS = 256


def _short(value: object, limit: int = 60) -> str:
    """`value` for a message. Never raises, and never writes out something huge only to cut it."""
    try:
        if isinstance(value, int) and value.bit_length() > _MOST_BITS:
            return f"<{type(value).__name__} of {value.bit_length()} bits>"
        if isinstance(value, str | bytes | bytearray) and len(value) > limit:
            unit = "characters" if isinstance(value, str) else "bytes"
            return f"{repr(value[:limit])[: limit - 1]}… ({len(value)} {unit})"
        text = reprlib.repr(value) if isinstance(value, _CONTAINERS) else repr(value)
        return text if len(text) <= limit else f"{text[: limit - 1]}… ({len(text)} characters)"
    except Exception:  # noqa: BLE001  # whatever a stranger's __repr__ raises, the error that is told matters more
        return f"<{type(value).__name__}>"


_CONTAINERS = (list, tuple, dict, set, frozenset)
