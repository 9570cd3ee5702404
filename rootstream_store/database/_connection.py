"""One PostgreSQL connection as this library uses it: limits set on connect, types fixed, statements prepared
once."""

from __future__ import annotations

import os
import time
from typing import Any, Self

import msgspec
import psycopg
from psycopg import abc
from psycopg.adapt import Transformer
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow
from psycopg.types.json import set_json_loads
from psycopg.types.numeric import Int8BinaryDumper

from rootstream_store.errors import SettingsError
from rootstream_store.settings import Settings, redact

__all__ = ["Connection", "conninfo", "names_several_hosts"]


class Connection(psycopg.Connection[TupleRow]):
    """A connection in autocommit that remembers when it was last used and what it has prepared."""

    last_used: float = 0.0
    in_transaction: bool = False
    """Between BEGIN and COMMIT a lost connection means that nothing was applied. Still True when the
    connection is given back: the transaction was torn."""
    handed_out: bool = False
    """Between the pool's acquire and release."""
    transformer: abc.Transformer
    """Turns values into what the server is sent, and back; it remembers how for each type."""
    prepared: set[bytes]
    """The names of the statements that run_prepared has prepared."""

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
        # Above the number of queries there are, so that none is prepared twice.
        self.prepared_max = 1000
        self.prepared = set()
        self.transformer = Transformer(self)
        self.last_used = time.monotonic()


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
        # The server takes the last of two equal options. libpq would read PGOPTIONS only if we gave none.
        theirs = given.pop("options", None) or os.environ.get("PGOPTIONS", "")
        wanted["options"] = f"{own} {theirs}".strip()
    # Text must arrive as it is stored, whatever PGCLIENTENCODING says.
    return make_conninfo(**{**wanted, **given, "client_encoding": "utf8"})


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
