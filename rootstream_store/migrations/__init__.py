"""Migrations: numbered SQL files, applied once, in order, by one runner at a time. Forward only.

A *line* is one directory of files and its numbering. The library's own is "rootstream"; a directory of yours
is "app" or any other name, in the same table schema_migrations, and neither knows of the other.

Everything here opens its own direct connection; none comes from a pool, and PgBouncer in transaction mode
will not do. All raise Unavailable when the server cannot be reached, PermissionDenied or SettingsError when
it does not know the login or the database, InvalidInput for an argument of the wrong kind, and MigrationError
for whatever else is wrong, naming the file.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import psycopg

from rootstream_store.errors import MigrationError
from rootstream_store.migrations import _adopt
from rootstream_store.migrations._arguments import check_seconds, check_version
from rootstream_store.migrations._files import OWN_LINE, MigrationFile, locate, read_files
from rootstream_store.migrations._ledger import Entry, Status, compare, read_ledger
from rootstream_store.migrations._runner import Applied, apply_files, pending_files
from rootstream_store.migrations._session import HasDatabaseUrl, Session, open_session, server_error

__all__ = [
    "OWN_LINE",
    "Applied",
    "Entry",
    "HasDatabaseUrl",
    "MigrationFile",
    "Status",
    "apply",
    "baseline",
    "plan",
    "resolve",
    "sql",
    "status",
    "status_on",
]


def apply(
    db: str | HasDatabaseUrl,
    path: Path | str | None = None,
    *,
    line: str | None = None,
    lock_timeout: float = 5.0,
    wait: float = 60.0,
    target: int | None = None,
) -> list[Applied]:
    """Applies what is pending, and returns it; an empty list when nothing was.

    `db`: a store or a connection string. `path`: a directory of files; None: the library's own. `line`: the
    name it is kept under; None: "app" for a path, "rootstream" without. `target`: the last version to apply;
    None: all. `lock_timeout`: how many seconds a statement may queue for a table lock, with everybody else
    queueing behind it, before it steps back and tries again. `wait`: how many seconds to wait for another
    runner, and, for each file, to go on trying when others hold its locks.

    Each file runs in one transaction with its record, so that a failing one leaves nothing behind; those
    before it stay. A file that begins with `-- rootstream: no-transaction` holds one statement and runs
    alone. A CREATE INDEX CONCURRENTLY that was killed half way is built again.

    Raises MigrationError with file, line and column; `retryable` says that others' locks or a lost connection
    were the cause. Raises Timeout when another runner was at work for all of `wait`.
    """
    check_seconds(lock_timeout=lock_timeout, wait=wait)
    _check_target(target)
    directory, line = locate(path, line)
    files = read_files(directory)
    with open_session(db, lock_timeout=lock_timeout) as session:
        # A database that is up to date needs neither the lock nor the right to create. Whatever else is seen
        # without the lock may be another runner at work, so it is looked at again with it.
        entries = compare(files, read_ledger(session, line).rows, line)
        if target is None and all(entry.state == "applied" and not entry.problem for entry in entries):
            return []
        with session.locked(wait):
            ledger = read_ledger(session, line)
            return apply_files(session, ledger, pending_files(files, ledger, target), wait=wait)


def plan(
    db: str | HasDatabaseUrl,
    path: Path | str | None = None,
    *,
    line: str | None = None,
    target: int | None = None,
) -> list[MigrationFile]:
    """The files that `apply` would apply, in order. Changes nothing; raises what `apply` would of files."""
    _check_target(target)
    directory, line = locate(path, line)
    files = read_files(directory)
    with open_session(db) as session:
        return pending_files(files, read_ledger(session, line), target)


def status(db: str | HasDatabaseUrl, path: Path | str | None = None, *, line: str | None = None) -> Status:
    """Where the database stands. Changes nothing, works on a standby, and tells of problems instead of
    raising them; raises only when files or database cannot be read."""
    directory, line = locate(path, line)
    files = read_files(directory)
    with open_session(db, write=False) as session:
        return Status(line=line, entries=tuple(compare(files, read_ledger(session, line).rows, line)))


def status_on(connection: psycopg.Connection[tuple[Any, ...]]) -> Status:
    """As `status` for the library's own line, on a connection that is open, such as one through PgBouncer."""
    session = Session(connection, lock_timeout=0)
    try:
        rows = read_ledger(session, OWN_LINE).rows
    except psycopg.Error as error:
        raise server_error(error, session) from error
    return Status(line=OWN_LINE, entries=tuple(compare(_own_files(), rows, OWN_LINE)))


def baseline(
    db: str | HasDatabaseUrl,
    version: int,
    path: Path | str | None = None,
    *,
    line: str | None = None,
    check: bool = True,
    wait: float = 60.0,
) -> list[Entry]:
    """Records the files up to `version` as applied without running them: for a database that got them by
    other means.

    With `check` everything the files make must be there as they make it; it is found out by running them in a
    scratch schema that is rolled back. Without, only you know. Raises MigrationError when something is
    missing or differs, and when the line has records already.
    """
    check_version(version=version)
    check_seconds(wait=wait)
    directory, line = locate(path, line)
    files = read_files(directory)
    chosen = [file for file in files if file.version <= version]
    if not chosen or chosen[-1].version != version:
        raise MigrationError(
            f"no file has version {version}; there are {files[0].version} to {files[-1].version}"
        )
    with open_session(db) as session, session.locked(wait):
        ledger = read_ledger(session, line)
        if ledger.rows:
            raise MigrationError(
                f"line {line!r} is on record up to version {ledger.rows[-1].version}: a baseline comes first"
            )
        if check:
            _adopt.require_objects(session, chosen)
        _adopt.record_baseline(session, ledger, chosen)
        return compare(chosen, read_ledger(session, line).rows, line)


def resolve(
    db: str | HasDatabaseUrl,
    version: int,
    path: Path | str | None = None,
    *,
    applied: bool,
    line: str | None = None,
    wait: float = 60.0,
) -> None:
    """Tells how a version ended whose record says running: a no-transaction file that was cut off.

    `applied` True: it did its work. False: it did not, and the next `apply` runs it again; a half-built index
    that it names is dropped. Raises MigrationError when the version is not running, and when it is said to be
    applied but its index is not there or not valid.
    """
    check_version(version=version)
    check_seconds(wait=wait)
    directory, line = locate(path, line)
    files = {file.version: file for file in read_files(directory)}
    with open_session(db) as session, session.locked(wait):
        ledger = read_ledger(session, line)
        row = next((row for row in ledger.rows if row.version == version), None)
        if row is None or row.state != "running":
            state = "is applied" if row else "was never begun"
            raise MigrationError(f"version {version} of line {line!r} {state}: there is nothing to resolve")
        if version not in files:
            raise MigrationError(f"is missing: version {version} was begun from it", file=row.name)
        _adopt.settle(session, ledger, files[version], applied=applied, wait=wait)


def sql(path: Path | str | None = None, *, after: int = 0, target: int | None = None) -> str:
    """The text of the files above version `after` up to `target` (None: all), for people with a migration
    tool of their own. No server is asked. Every file is to run in one transaction, except those that say
    no-transaction."""
    check_version(after=after)
    _check_target(target)
    directory, _line = locate(path, None)
    chosen = [
        file
        for file in read_files(directory)
        if file.version > after and (target is None or file.version <= target)
    ]
    return "\n".join(f"-- {file.name}\n{file.text.rstrip()}\n" for file in chosen)


def _check_target(target: int | None) -> None:
    if target is not None:
        check_version(target=target)


@functools.cache
def _own_files() -> list[MigrationFile]:
    # Part of the installation: for a health check every few seconds they need not be read each time.
    return read_files(locate(None, None)[0])
