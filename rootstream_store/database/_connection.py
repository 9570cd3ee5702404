"""One PostgreSQL connection as this library uses it: limits set on connect, types fixed, statements prepared
once."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Self, TypeVar

import msgspec
import psycopg
from psycopg import abc
from psycopg.adapt import Transformer
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.errors import _WaitTimeout
from psycopg.rows import TupleRow
from psycopg.types.json import set_json_dumps, set_json_loads
from psycopg.types.numeric import Int8BinaryDumper

from rootstream_store.database._deadline import give_up, limit_waits
from rootstream_store.errors import SettingsError
from rootstream_store.settings import Settings, redact

__all__ = ["WAKE_UP", "Connection", "conninfo", "names_several_hosts"]

T = TypeVar("T")

WAKE_UP = 0.1
"""Seconds after which a wait looks whether Ctrl-C was pressed: psycopg's own."""


class Connection(psycopg.Connection[TupleRow]):
    """A connection in autocommit that remembers when it was last used and what it has prepared."""

    last_used: float = 0.0
    in_transaction: bool = False
    """Between BEGIN and COMMIT a lost connection means that nothing was applied. Still True when the
    connection is given back: the transaction was torn."""
    handed_out: bool = False
    """Between the pool's acquire and release."""
    is_completed: bool = False
    """A COMMIT or ROLLBACK whose caller was cancelled has ended all the same, and well."""
    transformer: abc.Transformer
    """Turns values into what the server is sent, and back; it remembers how for each type."""
    prepared: set[bytes]
    """The names of the statements that run_prepared has prepared."""
    limit: float | None = None
    """Longest wait for one answer, in seconds; then the connection is closed. None: no limit."""
    follows: bool = False
    """Whether `limit` follows the session's statement_timeout."""
    is_limit_passing: bool = False
    """A statement of this transaction may have changed statement_timeout."""

    @classmethod
    def connect(cls, conninfo: str = "", **kwargs: Any) -> Self:
        connection = super().connect(conninfo, **kwargs)
        connection.prepare()
        return connection

    def prepare(self) -> None:
        """Types and limits that hold for the whole life of the connection."""
        # psycopg sends an int as int2, int4 or int8 by its value: up to three prepared statements for one
        # query.
        self.adapters.register_dumper(int, Int8BinaryDumper)
        set_json_loads(msgspec.json.decode, self)
        set_json_dumps(msgspec.json.encode, self)
        # Above the number of queries there are, so that none is prepared twice.
        self.server_cursor_factory = _ServerCursor
        self.prepared_max = 1000
        self.prepared = set()
        self.transformer = Transformer(self)
        self.last_used = time.monotonic()

    def limit_waits(self, settings: Settings) -> None:
        """Sets `limit` as the settings say. Raises psycopg's errors: the server may have to be asked."""
        limit_waits(self, settings, ask=settings.pgbouncer or _has_own_timeout(settings))

    @contextmanager
    def limited(self, seconds: float | None) -> Generator[None]:
        """Has another `limit` in the block."""
        limit, self.limit = self.limit, seconds
        try:
            yield
        finally:
            self.limit = limit

    wait_within = psycopg.Connection.wait
    """psycopg's own: it raises _WaitTimeout when `timeout` seconds have passed."""

    def wait(self, gen: abc.PQGen[T], interval: float = WAKE_UP, timeout: float | None = None) -> T:
        """As psycopg's, for at most `limit` where `timeout` is None. All that asks the server waits here,
        but for prepared statements, which do the same by themselves."""
        if timeout is not None:
            return self.wait_within(gen, interval, timeout)
        try:
            return self.wait_within(gen, interval, self.limit)
        except _WaitTimeout:
            raise give_up(self) from None


class _ServerCursor(psycopg.ServerCursor[TupleRow]):
    """Closed by the end of its transaction, also where its own close was cut off: psycopg need not warn."""

    def __del__(self, *_: object) -> None:
        pass


def conninfo(settings: Settings) -> str:
    """The connection string with this library's limits added; what the user's own string says wins.

    Raises SettingsError, with the password left out, when the string cannot be read."""
    try:
        given = conninfo_to_dict(settings.database_url)
    except psycopg.ProgrammingError:
        # libpq's text quotes the part that it stumbled over: that may be a piece of the password.
        raise SettingsError(
            f"database_url cannot be read: {redact(settings.database_url)}; write "
            "postgresql://user:password@host/database or key=value pairs; in a URL the characters / ? # @ % "
            "of a password must be percent-encoded"
        ) from None
    wanted: dict[str, Any] = {
        "application_name": settings.application_name,
        "connect_timeout": settings.connect_timeout,
        "keepalives_idle": settings.keepalives_idle,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": round(settings.tcp_user_timeout * 1000),
    }
    if not settings.pgbouncer:
        options = {
            "TimeZone": "UTC",
            "statement_timeout": _milliseconds(settings.statement_timeout),
            "lock_timeout": _milliseconds(settings.lock_timeout),
            "idle_in_transaction_session_timeout": _milliseconds(settings.idle_in_transaction_timeout),
        }
        own = " ".join(f"-c {name}={value}" for name, value in options.items())
        # The server takes the last of two equal options.
        wanted["options"] = f"{own} {_own_options(given)}".strip()
        given.pop("options", None)
    # Text must arrive as it is stored, whatever PGCLIENTENCODING says.
    return make_conninfo(**{**wanted, **given, "client_encoding": "utf8"})


def _own_options(given: dict[str, Any]) -> str:
    # libpq would read PGOPTIONS only if we gave none.
    return given.get("options") or os.environ.get("PGOPTIONS", "")


def _has_own_timeout(settings: Settings) -> bool:
    """Whether the user's own connection string may set another statement_timeout."""
    given = conninfo_to_dict(settings.database_url)
    return re.search("statement[-_]timeout", _own_options(given), re.IGNORECASE) is not None


def names_several_hosts(info: str) -> bool:
    """Whether a connection string, or libpq's environment where it names none, has more than one server."""
    given = conninfo_to_dict(info)
    for name in ("host", "hostaddr"):
        if "," in str(given.get(name) or os.environ.get(f"PG{name.upper()}", "")):
            return True
    return False


def _milliseconds(seconds: float) -> str:
    # At least 1 ms: rounding down to 0 would mean no limit.
    return f"{max(1, round(seconds * 1000)) if seconds else 0}"
