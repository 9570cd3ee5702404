"""The table schema_migrations, and how it compares with a directory of files."""

from __future__ import annotations

import datetime
from typing import Literal

import msgspec

from rootstream_store.errors import MigrationError
from rootstream_store.migrations._files import MigrationFile
from rootstream_store.migrations._session import Session, statement

__all__ = ["Entry", "Ledger", "Row", "Status", "compare", "read_ledger"]

_DESCRIBE = statement("describe_ledger")
_CREATE = statement("create_ledger")
_LIST = statement("list_ledger")
_RECORD = statement("record_version")
_FINISH = statement("finish_version")
_FORGET = statement("forget_version")

_COLUMNS = ["line", "version", "name", "checksum", "state", "applied_at", "duration_ms"]


class Row(msgspec.Struct, frozen=True):
    """One row of schema_migrations."""

    version: int
    name: str
    checksum: str
    state: str
    applied_at: datetime.datetime
    duration_ms: int


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One version, as files and database together tell of it."""

    version: int
    name: str
    """File name; the recorded one where the file is missing."""
    state: Literal["applied", "pending", "running"]
    """running: a file without a transaction was begun and its end is not known."""
    problem: str | None = None
    """Why `apply` would refuse, None when it would not."""
    applied_at: datetime.datetime | None = None
    """By the database's clock. None while pending."""
    duration_ms: int | None = None
    """How long it took, in milliseconds. None while pending, 0 where it was not applied by this runner."""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Where a database stands on one line."""

    line: str
    entries: tuple[Entry, ...]
    """Every version that files or database know, in order."""

    @property
    def version(self) -> int:
        """The highest applied version, 0 when there is none."""
        return max((entry.version for entry in self.entries if entry.state == "applied"), default=0)

    @property
    def pending(self) -> tuple[Entry, ...]:
        """What `apply` has still to do, half-done versions among it."""
        return tuple(entry for entry in self.entries if entry.state != "applied")

    @property
    def problems(self) -> tuple[str, ...]:
        """What `apply` would refuse, each with its file."""
        return tuple(f"{entry.name}: {entry.problem}" for entry in self.entries if entry.problem)


class Ledger:
    """The rows of one line, and the writes that keep them."""

    def __init__(self, session: Session, line: str, rows: list[Row], *, exists: bool) -> None:
        self.line = line
        self.rows = rows
        self._session = session
        self._exists = exists

    def create(self) -> None:
        """Makes the table where there is none, in the transaction that is open."""
        if not self._exists:
            self._session.run(_CREATE)

    def created(self) -> None:
        """That transaction was committed."""
        self._exists = True

    def record(self, file: MigrationFile, *, state: str, duration_ms: int) -> None:
        """A new row for this file."""
        self._session.run(
            _RECORD,
            line=self.line,
            version=file.version,
            name=file.name,
            checksum=file.checksum,
            state=state,
            duration_ms=duration_ms,
        )

    def is_running(self, version: int) -> bool:
        """Whether the version is on record as begun and not ended, asked anew."""
        if not self._exists:
            return False
        rows = [Row(*row) for row in self._session.run(_LIST, line=self.line)]
        return any(row.version == version and row.state == "running" for row in rows)

    def finish(self, version: int, *, duration_ms: int) -> bool:
        """Running becomes applied; False when it was not running."""
        rows = self._session.run(_FINISH, line=self.line, version=version, duration_ms=duration_ms)
        return bool(rows)

    def forget(self, version: int) -> bool:
        """Running becomes never begun; False when it was not running."""
        return bool(self._session.run(_FORGET, line=self.line, version=version))


def read_ledger(session: Session, line: str) -> Ledger:
    """What the database has on record for a line. Raises MigrationError when the table is another tool's."""
    columns = [row[0] for row in session.run(_DESCRIBE)]
    if not columns:
        return Ledger(session, line, [], exists=False)
    if sorted(columns) != sorted(_COLUMNS):
        raise MigrationError(
            f"table schema_migrations is not ours (columns {', '.join(columns)}): another migration tool "
            "uses this schema; give this library a schema of its own with options=-csearch_path=NAME "
            "in the connection string"
        )
    rows = [Row(*row) for row in session.run(_LIST, line=line)]
    return Ledger(session, line, rows, exists=True)


def compare(files: list[MigrationFile], rows: list[Row], line: str) -> list[Entry]:
    """Files and records side by side, by version, each with what is wrong with it."""
    by_version = {file.version: file for file in files}
    recorded = {row.version: row for row in rows}
    highest_applied = max((row.version for row in rows if row.state == "applied"), default=0)
    entries: list[Entry] = []
    for version in sorted(by_version.keys() | recorded.keys()):
        file, row = by_version.get(version), recorded.get(version)
        if row is not None:
            entries.append(_recorded(file, row, files[-1].version, line))
        elif file is not None:
            late = f"version {version} is out of order: the database is at version {highest_applied}"
            problem = f"{late}; give it a number above" if version < highest_applied else None
            entries.append(Entry(version=version, name=file.name, state="pending", problem=problem))
    return entries


def _recorded(file: MigrationFile | None, row: Row, newest: int, line: str) -> Entry:
    problem: str | None = None
    if file is None and row.version > newest:
        problem = (
            f"the database is newer than these files: it has version {row.version} of line {line!r}, "
            f"they end at {newest}; use the release that knows it"
        )
    elif file is None:
        problem = f"is missing: version {row.version} was applied from it; put the file back"
    elif file.checksum != row.checksum:
        problem = (
            f"was edited after it was {row.state}; put it back as it was and write a new file for the change"
        )
    return Entry(
        version=row.version,
        name=row.name if file is None else file.name,
        state="running" if row.state == "running" else "applied",
        problem=problem,
        applied_at=row.applied_at,
        duration_ms=row.duration_ms,
    )
