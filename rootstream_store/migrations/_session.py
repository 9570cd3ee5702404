"""The runner's own connection: opened directly, never from a pool, and holder of the lock of runs."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from typing import Any, Protocol

import psycopg
from psycopg.conninfo import conninfo_to_dict

from rootstream_store.database._translate import connection_error, scrub
from rootstream_store.errors import MigrationError, RootStreamError, SettingsError, Timeout, Unavailable
from rootstream_store.migrations._arguments import check_database
from rootstream_store.queries import Query, query
from rootstream_store.settings import Settings

__all__ = ["HasDatabaseUrl", "Session", "open_session", "server_error", "statement"]

_LOG = logging.getLogger("rootstream_store.migrations")


def statement(name: str) -> Query[None]:
    """One of the runner's own statements, sql/migration/<name>.sql."""
    return query(f"migration/{name}")


_DESCRIBE = statement("describe_server")
_TRY_LOCK = statement("try_lock")
_UNLOCK = statement("unlock")
_HAS_LOCK = statement("has_lock")
_FIND_HOLDER = statement("find_lock_holder")
_SET_LIMITS = statement("set_limits")
_RESETS = [statement(name) for name in ("reset_session_user", "reset_role", "reset_settings")]

_LOCK_KEY = int.from_bytes(b"rootstre")
"""One key for all lines: two lines may touch the same tables. Advisory locks are per database."""
_OLDEST_SERVER = 150000


class HasDatabaseUrl(Protocol):
    """What a Store offers: the settings that say where the database is."""

    @property
    def settings(self) -> Settings:
        """The settings of the store."""


class Session:
    """An open connection and the limits of this run. Made by `open_session`."""

    def __init__(self, connection: psycopg.Connection[tuple[Any, ...]], lock_timeout: float) -> None:
        self.connection = connection
        self.lock_timeout = lock_timeout
        self.schema = ""

    def run(self, own: Query[None], **values: object) -> list[tuple[Any, ...]]:
        """Runs one of the runner's own statements; its rows, none for a statement that has none."""
        own.check(values)
        cursor = self.connection.execute(own.text.encode(), values)
        return cursor.fetchall() if cursor.description else []

    def run_text(self, text: str) -> None:
        """Runs one statement of a migration as it stands."""
        self.connection.execute(text.encode())

    @property
    def is_lost(self) -> bool:
        """True when the connection is gone: nothing can be asked or undone any more."""
        return self.connection.closed or self.connection.broken

    def set_limits(self, lock_timeout: float | None = None) -> None:
        """Lock timeout in seconds (None: the one of the run), no statement timeout."""
        seconds = self.lock_timeout if lock_timeout is None else lock_timeout
        self.run(_SET_LIMITS, lock_timeout=f"{max(1, round(seconds * 1000))}ms" if seconds else "0")

    def reset(self) -> None:
        """Drops what a migration set for the session (role, search_path, …), which no later file may see."""
        for reset in _RESETS:
            self.run(reset)
        self.set_limits()

    def require_migratable(self, *, write: bool) -> None:
        """Raises MigrationError when this server cannot be migrated; a standby may still be read."""
        ((standby, read_only, version, database, schema),) = self.run(_DESCRIBE)
        if version < _OLDEST_SERVER:
            raise MigrationError(f"PostgreSQL 15 or newer is needed, this server is {version // 10000}")
        self.schema = schema or ""
        if not write:
            return
        if standby:
            raise MigrationError(f"the server of database {database!r} is a standby: connect to its primary")
        if read_only:
            raise MigrationError(
                f"database {database!r} is read-only here: default_transaction_read_only is on for this role "
                "or database"
            )
        if not self.schema:
            raise MigrationError("no schema on the search path exists, so there is nowhere to create tables")

    @contextlib.contextmanager
    def locked(self, wait: float) -> Iterator[None]:
        """Holds the lock of the runner. Polls for it: a session that waits inside the server would deadlock
        with CREATE INDEX CONCURRENTLY of the one that holds it. Raises Timeout after `wait` seconds."""
        deadline = time.monotonic() + wait
        pause = 0.02
        while not self.run(_TRY_LOCK, key=_LOCK_KEY)[0][0]:
            left = deadline - time.monotonic()
            if left <= 0:
                raise Timeout(
                    f"another migration run holds the lock for more than {wait:g} s{self._holder()}"
                )
            time.sleep(min(pause, left))
            pause = min(pause * 1.5, 0.5)
        yield
        # After a failure the end of the connection releases it.
        self.run(_UNLOCK, key=_LOCK_KEY)

    def _holder(self) -> str:
        rows = self.run(_FIND_HOLDER, key=_LOCK_KEY)
        if not rows:
            return ""
        pid, application, client, seconds = rows[0]
        name = application or "no application_name"
        return f": server process {pid} ({name}, {client}, connected for {seconds or 0:.0f} s)"

    def require_lock(self, file: str) -> None:
        """Raises MigrationError when the lock is no longer ours; the caller's transaction then rolls back."""
        if not self.run(_HAS_LOCK, key=_LOCK_KEY)[0][0]:
            raise MigrationError(
                "the lock of the migration run was lost: a statement released it, or a pooler (PgBouncer) "
                "gave us another server session; connect directly to PostgreSQL",
                file=file,
            )


@contextlib.contextmanager
def open_session(
    db: str | HasDatabaseUrl, *, lock_timeout: float = 5.0, write: bool = True
) -> Iterator[Session]:
    """A session on the server that `db` names. Raises Unavailable when it cannot be reached or goes away,
    PermissionDenied when it refuses the login, SettingsError for a connection string that cannot be read or
    names no database of the server, MigrationError for a server that cannot be migrated, InvalidInput."""
    check_database(db)
    try:
        connection = psycopg.connect(**_parameters(db), autocommit=True, prepare_threshold=None)
    except psycopg.Error as error:
        raise connection_error(error, db if isinstance(db, str) else db.settings.database_url) from error
    session = Session(connection, lock_timeout)
    connection.add_notice_handler(_log_notice)
    try:
        session.require_migratable(write=write)
        if write:
            session.set_limits()
        yield session
    except psycopg.Error as error:
        raise server_error(error, session) from error
    finally:
        connection.close()


def _parameters(db: str | HasDatabaseUrl) -> dict[str, Any]:
    settings = None if isinstance(db, str) else db.settings
    if settings is not None and settings.pgbouncer:
        raise MigrationError(
            "migrations need a direct connection, not one through PgBouncer: pass a connection string "
            "of the server"
        )
    try:
        given = conninfo_to_dict(db if isinstance(db, str) else db.settings.database_url)
    except psycopg.ProgrammingError:
        # psycopg's text repeats parts of the string, the password perhaps among them.
        raise SettingsError("database_url is neither a postgresql:// URL nor key=value pairs") from None
    wanted: dict[str, Any] = {
        "connect_timeout": settings.connect_timeout if settings else 5,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "application_name": "rootstream-store migrate",
    }
    if "," in str(given.get("host", "")):
        wanted["target_session_attrs"] = "read-write"
    return {**wanted, **given, "client_encoding": "utf8"}


def _log_notice(diagnostic: psycopg.errors.Diagnostic) -> None:
    _LOG.info("%s: %s", diagnostic.severity, diagnostic.message_primary)


def server_error(error: psycopg.Error, session: Session) -> RootStreamError:
    """The error to raise in place of one that no file is to blame for."""
    message = scrub(error)
    if session.is_lost:
        return Unavailable(f"the connection was lost: {message}", sqlstate=error.sqlstate)
    return MigrationError(message, sqlstate=error.sqlstate, constraint=error.diag.constraint_name)
