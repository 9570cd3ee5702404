"""A directory of migrations to write files into, and a way to look at the database beside the runner."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.rows import TupleRow

Write = Callable[..., Path]
Connection = psycopg.Connection[TupleRow]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """An empty directory for migration files."""
    made = tmp_path / "migrations"
    made.mkdir()
    return made


@pytest.fixture
def write(directory: Path) -> Write:
    """write("0001_create_a.sql", "CREATE TABLE a ()") makes a file; bytes go as they are."""

    def _write(name: str, text: str | bytes) -> Path:
        path = directory / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return _write


@pytest.fixture
def database(empty_database_url: str) -> Iterator[Connection]:
    """A connection in autocommit to the empty database of the test."""
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        yield connection


def until(condition: Callable[[], object], what: str, seconds: float = 20.0) -> None:
    """Waits until the condition holds; fails naming it when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain for {what}"
        time.sleep(0.02)


def command(url: str, *arguments: str) -> subprocess.Popen[str]:
    """Starts `rootstream-store migrate …` on that database, as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "rootstream_store.cli", "migrate", *arguments],
        env={**os.environ, "DATABASE_URL": url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str], seconds: float = 60) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    out, err = process.communicate(timeout=seconds)
    return process.returncode, out, err


def runner_pid(connection: Connection, doing: str) -> int | None:
    """The server process of a runner in this database whose statement begins so; None when there is none."""
    row = connection.execute(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND state = 'active' "
        "AND application_name = 'rootstream-store migrate' AND query LIKE %s",
        [doing + "%"],
    ).fetchone()
    return row[0] if row else None


def value(connection: Connection, statement: str, *parameters: object) -> object:
    """The single value of a query."""
    row = connection.execute(statement.encode(), parameters or None).fetchone()
    assert row is not None
    return row[0]


def tables(connection: Connection) -> set[str]:
    """The tables of schema public, without the runner's own."""
    rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    return {row[0] for row in rows} - {"schema_migrations"}


def ledger(connection: Connection, line: str = "app") -> list[tuple[int, str]]:
    """(version, state) of a line; empty when there is no ledger."""
    if value(connection, "SELECT to_regclass('schema_migrations')") is None:
        return []
    rows = connection.execute(
        "SELECT version, state FROM schema_migrations WHERE line = %s ORDER BY version", [line]
    ).fetchall()
    return [(row[0], row[1]) for row in rows]


def snapshot(connection: Connection) -> list[tuple[object, ...]]:
    """Every relation and column of the user's schemas: what must be as before after a refusal."""
    return connection.execute(
        """
        SELECT relnamespace::regnamespace::text, relname::text, relkind::text, attname::text,
            atttypid::regtype::text
        FROM pg_class LEFT JOIN pg_attribute ON attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped
        WHERE relnamespace::regnamespace::text NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
        ORDER BY 1, 2, 4
        """
    ).fetchall()
