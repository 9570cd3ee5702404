"""Putting on record what somebody else applied (baseline), and what a broken run left open (resolve)."""

from __future__ import annotations

import logging

import psycopg

from rootstream_store.database._translate import scrub
from rootstream_store.errors import MigrationError
from rootstream_store.migrations import _index
from rootstream_store.migrations._files import MigrationFile
from rootstream_store.migrations._ledger import Ledger
from rootstream_store.migrations._runner import repeat_while_blocked
from rootstream_store.migrations._session import Session, server_error, statement

__all__ = ["catalog", "record_baseline", "require_objects", "settle"]

_LOG = logging.getLogger("rootstream_store.migrations")
_LIST_CATALOG = statement("list_catalog")
_CREATE_SCRATCH = statement("create_scratch_schema")
_USE_SCRATCH = statement("use_scratch_schema")
_SCRATCH = "rootstream_baseline_scratch"

Objects = dict[tuple[str, str], str]


class _Undo(Exception):
    """Ends a transaction that was never meant to be kept."""


def catalog(session: Session, schema: str, *, partitions: bool = True) -> Objects:
    """What a schema consists of: (kind, name) → definition, without the schema's name. Partitions on wish:
    which ones there are is a matter of the calendar."""
    rows = session.run(_LIST_CATALOG, schema=schema)
    return {
        (kind, name): definition for kind, name, definition, partition in rows if partitions or not partition
    }


def record_baseline(session: Session, ledger: Ledger, files: list[MigrationFile]) -> None:
    """Records the files as applied, all or none."""
    with session.connection.transaction():
        session.require_lock(files[-1].name)
        ledger.create()
        for file in files:
            ledger.record(file, state="applied", duration_ms=0)


def require_objects(session: Session, files: list[MigrationFile]) -> None:
    """Raises MigrationError unless everything that the files make is in the database as they make it.

    They run in a scratch schema, in a transaction that is rolled back, and what they made there is compared.
    More than that may be there. An index built concurrently is looked for by name, since it cannot be built
    in a transaction.
    """
    for file in files:
        index = _index.index_of(file)
        if index is not None and not _index.is_valid(session, index):
            raise MigrationError(f"there is no valid index {index.name} on {index.table}", file=file.name)
        if index is None and not file.in_transaction:
            _LOG.warning("%s cannot be checked: it does not run in a transaction", file.name)
    there = catalog(session, session.schema, partitions=False)
    expected = _made_by([file for file in files if file.in_transaction], session)
    differing = _differing(expected, there)
    if differing:
        shown = "; ".join(
            f"{kind} {name} {'differs' if (kind, name) in there else 'is missing'}"
            for kind, name in differing[:5]
        )
        more = f"; {len(differing) - 5} more" if len(differing) > 5 else ""
        raise MigrationError(f"the database is not as version {files[-1].version} leaves it: {shown}{more}")


def _differing(expected: Objects, there: Objects) -> list[tuple[str, str]]:
    """The expected objects that are not there or differ; of a missing table, the table alone."""
    keys = [key for key, definition in expected.items() if there.get(key) != definition]
    missing = {name for kind, name in keys if kind == "table" and (kind, name) not in there}
    told = [(kind, name) for kind, name in keys if "." not in name or name.partition(".")[0] not in missing]
    return sorted(told, key=lambda key: (key[0] != "table", key))


def _made_by(files: list[MigrationFile], session: Session) -> Objects:
    made: Objects = {}
    file: MigrationFile | None = None
    try:
        with session.connection.transaction():
            session.run(_CREATE_SCRATCH)
            for file in files:
                session.run(_USE_SCRATCH)
                for part in file.statements:
                    session.run_text(part.text)
            made = catalog(session, _SCRATCH, partitions=False)
            raise _Undo
    except _Undo:
        return made
    except psycopg.Error as error:
        if session.is_lost or file is None:
            raise server_error(error, session) from error
        raise MigrationError(
            f"cannot be tried in a schema of its own, so nothing was compared: {scrub(error)}",
            file=file.name,
            sqlstate=error.sqlstate,
        ) from error


def settle(session: Session, ledger: Ledger, file: MigrationFile, *, applied: bool, wait: float) -> None:
    """Ends the state "running" of a file. As applied: its index must be valid. As not applied: a half-built
    index that it names is dropped."""
    index = _index.index_of(file)
    if applied and index is not None and not _index.is_valid(session, index):
        raise MigrationError(
            f"there is no valid index {index.name} on {index.table}, so it is not applied", file=file.name
        )
    if not applied and index is not None:
        repeat_while_blocked(lambda: _drop(session, index, file), file, wait)
    session.require_lock(file.name)
    if applied:
        ledger.finish(file.version, duration_ms=0)
    else:
        ledger.forget(file.version)


def _drop(session: Session, index: _index.NamedIndex, file: MigrationFile) -> None:
    try:
        _index.drop_invalid(session, index)
    except psycopg.Error as error:
        if session.is_lost:
            raise
        raise MigrationError(scrub(error), file=file.name, sqlstate=error.sqlstate) from error
