"""Applying files: one transaction each, or one statement alone, and the ledger true at every moment."""

from __future__ import annotations

import functools
import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

import msgspec
import psycopg

from rootstream_store._sql_text import Statement, line_column
from rootstream_store.database._translate import scrub
from rootstream_store.errors import MigrationError
from rootstream_store.migrations import _index
from rootstream_store.migrations._files import MigrationFile, words
from rootstream_store.migrations._ledger import Ledger, compare
from rootstream_store.migrations._session import Session

__all__ = ["Applied", "apply_files", "pending_files", "repeat_while_blocked"]

_LOG = logging.getLogger("rootstream_store.migrations")
_T = TypeVar("_T")

_BLOCKED = frozenset({"55P03", "40P01"})
"""lock_not_available and deadlock_detected: somebody else was in the way, and will be gone."""
_HINTS = {
    "25001": "give it a file of its own that begins with -- rootstream: no-transaction",
    "42501": "run migrations as a role that owns the schema",
}


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """One file that this run applied."""

    line: str
    version: int
    name: str
    duration_ms: int
    """From its first statement to its record, in milliseconds, waits for locks included."""


def pending_files(files: list[MigrationFile], ledger: Ledger, target: int | None) -> list[MigrationFile]:
    """What is to be applied, in order, versions that an earlier run began among it.

    Raises MigrationError, naming the file, for the first thing that speaks against going on.
    """
    entries = compare(files, ledger.rows, ledger.line)
    by_version = {file.version: file for file in files}
    for entry in entries:
        if entry.problem:
            raise MigrationError(entry.problem, file=entry.name)
    if target is not None and target not in by_version:
        raise MigrationError(
            f"no file has version {target}; there are {files[0].version} to {files[-1].version}"
        )
    if target is not None and any(row.version > target for row in ledger.rows):
        raise MigrationError(
            f"the database is at version {ledger.rows[-1].version}, past {target}: migrations only go forward"
        )
    todo: list[MigrationFile] = []
    for entry in entries:
        if entry.state == "applied" or (target is not None and entry.version > target):
            continue
        file = by_version[entry.version]
        if entry.state == "running" and _index.index_of(file) is None:
            raise MigrationError(
                "was begun outside a transaction and its end is not known: look at what it did, then "
                f"`migrate resolve {file.version} --applied` or `--not-applied`",
                file=file.name,
            )
        todo.append(file)
    return todo


def apply_files(session: Session, ledger: Ledger, todo: list[MigrationFile], *, wait: float) -> list[Applied]:
    """Applies the files in order. `wait`: how many seconds to go on trying a file whose locks others hold."""
    done: list[Applied] = []
    for file in todo:
        started = time.monotonic()
        if file.in_transaction:
            action = functools.partial(_apply_in_transaction, session, ledger, file, started)
        else:
            action = functools.partial(_apply_alone, session, ledger, file, started, wait=wait)
        duration_ms = repeat_while_blocked(action, file, wait)
        _LOG.info("applied %s of line %s in %d ms", file.name, ledger.line, duration_ms)
        done.append(Applied(line=ledger.line, version=file.version, name=file.name, duration_ms=duration_ms))
    return done


def repeat_while_blocked(action: Callable[[], _T], file: MigrationFile, wait: float) -> _T:
    """Does `action` again, after a growing pause, for as long as somebody else's locks stop it, at most
    `wait` seconds. In between everybody else gets past: a statement queued for a lock also blocks all who
    come after it."""
    deadline = time.monotonic() + wait
    pause = 0.1
    while True:
        try:
            return action()
        except MigrationError as error:
            if error.sqlstate not in _BLOCKED:
                raise
            delay = pause * random.uniform(0.5, 1.5)
            if time.monotonic() + delay > deadline:
                error.retryable = True
                raise
            _LOG.info(
                "%s waits for locks of others (%s), next try in %.1f s", file.name, error.sqlstate, delay
            )
            time.sleep(delay)
            pause = min(pause * 2, 5.0)


def _apply_in_transaction(session: Session, ledger: Ledger, file: MigrationFile, started: float) -> int:
    statement: Statement | None = None
    try:
        with session.connection.transaction():
            session.require_lock(file.name)
            ledger.create()
            for statement in file.statements:
                session.run_text(statement.text)
            statement = None
            session.reset()
            session.require_lock(file.name)
            duration_ms = _milliseconds_since(started)
            ledger.record(file, state="applied", duration_ms=duration_ms)
    except psycopg.Error as error:
        raise _file_error(error, session, file, statement) from error
    ledger.created()
    return duration_ms


def _apply_alone(
    session: Session, ledger: Ledger, file: MigrationFile, started: float, *, wait: float
) -> int:
    """Runs a no-transaction file. The ledger says "running" first, so that a cut is known afterwards."""
    index = _index.index_of(file)
    try:
        # Asked each time: this may be a second try after a first that could not clean up.
        begun = ledger.is_running(file.version)
        valid = None if index is None else _index.is_valid(session, index)
        if index is not None and valid is False:
            if not begun:
                raise MigrationError(
                    f"there is an invalid index {index.name} that this runner did not begin: drop it first",
                    file=file.name,
                )
            _index.drop_invalid(session, index)
        if not begun:
            _record_running(session, ledger, file)
        if not (begun and valid):
            _run_alone(session, ledger, file, index, wait)
        session.reset()
        session.require_lock(file.name)
        duration_ms = _milliseconds_since(started)
        if not ledger.finish(file.version, duration_ms=duration_ms):
            raise MigrationError(
                "its record is gone: something else wrote to schema_migrations", file=file.name
            )
    except psycopg.Error as error:
        raise _file_error(error, session, file, file.statements[0]) from error
    return duration_ms


def _record_running(session: Session, ledger: Ledger, file: MigrationFile) -> None:
    with session.connection.transaction():
        session.require_lock(file.name)
        ledger.create()
        ledger.record(file, state="running", duration_ms=0)
    ledger.created()


def _run_alone(
    session: Session, ledger: Ledger, file: MigrationFile, index: _index.NamedIndex | None, wait: float
) -> None:
    statement = file.statements[0]
    concurrently = "concurrently" in words(statement.text)
    if concurrently:
        # It waits for old transactions without blocking anybody; cut short, it would have to begin all over.
        session.set_limits(max(session.lock_timeout, wait))
    try:
        session.run_text(statement.text)
    except psycopg.Error:
        if not session.is_lost:
            session.reset()
            if index is not None:
                _index.drop_invalid(session, index)
            if index is not None or not concurrently:
                ledger.forget(file.version)
        raise
    if index is not None and not _index.is_valid(session, index):
        raise MigrationError(
            f"there is no valid index {index.name} on {index.table} afterwards", file=file.name
        )


def _milliseconds_since(started: float) -> int:
    return round((time.monotonic() - started) * 1000)


def _file_error(
    error: psycopg.Error, session: Session, file: MigrationFile, statement: Statement | None
) -> MigrationError:
    """The server's error with its place in the file; the line itself comes as a note."""
    message = scrub(error)
    state, constraint = error.sqlstate, error.diag.constraint_name
    if session.is_lost:
        outcome = "the file was rolled back" if file.in_transaction else "its state is on record as running"
        lost = MigrationError(
            f"the connection was lost ({message}); {outcome}, run again to go on",
            file=file.name,
            sqlstate=state,
        )
        lost.retryable = True
        return lost
    hint = _HINTS.get(state or "") or error.diag.message_hint
    if hint:
        message = f"{message} ({hint})"
    if statement is None:
        return MigrationError(message, file=file.name, sqlstate=state, constraint=constraint)
    position = error.diag.statement_position
    line, column = line_column(file.text, statement.offset + (int(position) - 1 if position else 0))
    failed = MigrationError(
        message,
        file=file.name,
        line=line,
        column=column if position else None,
        sqlstate=state,
        constraint=constraint,
    )
    # Not splitlines(): it also cuts at form feeds and the like, which the server does not count.
    shown = file.text.split("\n")[line - 1]
    failed.add_note(f"{line:>5} | {shown}")
    if position:
        failed.add_note(f"      | {' ' * (column - 1)}^")
    return failed
