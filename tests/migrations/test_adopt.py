"""Baseline: databases that got their schema by other means."""

from __future__ import annotations

from pathlib import Path

import pytest

from rootstream_store import migrations
from rootstream_store.errors import MigrationError
from rootstream_store.migrations._files import read_files
from rootstream_store.queries import sql_root

from .conftest import Connection, Write, ledger, snapshot, tables, value


def newest() -> int:
    return read_files(sql_root() / "migrations")[-1].version


def test_own_schema_applied_by_hand(empty_database_url: str, database: Connection) -> None:
    database.execute(migrations.sql().encode())
    # More than the files make may be there.
    database.execute("CREATE TABLE of_the_app (x int); CREATE INDEX ON users (created_at)")
    entries = migrations.baseline(empty_database_url, newest())
    assert [entry.state for entry in entries] == ["applied"] * len(entries)
    assert len(ledger(database, "rootstream")) == len(entries)
    assert migrations.apply(empty_database_url) == []
    assert value(database, "SELECT to_regnamespace('rootstream_baseline_scratch')") is None


def test_months_may_have_passed(empty_database_url: str, database: Connection) -> None:
    """The partitions that there are depend on the day on which they were made."""
    database.execute(migrations.sql().encode())
    rows = database.execute(
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'usage_logs'::regclass"
    ).fetchall()
    assert rows
    for (partition,) in rows:
        if partition != "usage_logs_default":
            database.execute(f"DROP TABLE {partition}".encode())
    assert migrations.baseline(empty_database_url, newest())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("DROP TABLE snapshots", "table snapshots is missing"),
        ("ALTER TABLE users DROP avatar_url", "column users.avatar_url is missing"),
        ("ALTER TABLE users ALTER email DROP NOT NULL", "column users.email differs"),
        (
            "ALTER TABLE users DROP CONSTRAINT users_email_format",
            "constraint users.users_email_format is missing",
        ),
        ("DROP INDEX users_email_key", "index users_email_key is missing"),
        ("DROP TRIGGER users_set_updated_at ON users", "trigger users.users_set_updated_at is missing"),
        (
            "ALTER TABLE users DISABLE TRIGGER users_set_updated_at",
            "trigger users.users_set_updated_at differs",
        ),
    ],
)
def test_what_differs_is_told(empty_database_url: str, database: Connection, change: str, told: str) -> None:
    database.execute(migrations.sql().encode())
    database.execute(change.encode())
    before = snapshot(database)
    with pytest.raises(MigrationError) as caught:
        migrations.baseline(empty_database_url, newest())
    assert f"the database is not as version {newest()} leaves it: " in str(caught.value)
    assert told in str(caught.value)
    assert snapshot(database) == before
    assert migrations.baseline(empty_database_url, newest(), check=False)


def test_empty_database_is_no_baseline(empty_database_url: str, database: Connection) -> None:
    with pytest.raises(MigrationError, match=r"is missing; \d+ more"):
        migrations.baseline(empty_database_url, newest())
    assert snapshot(database) == []


def test_baseline_then_apply_the_rest(
    empty_database_url: str, database: Connection, directory: Path, write: Write
) -> None:
    write("0001_create_a.sql", "CREATE TABLE a (x int)")
    write("0002_index_a.sql", "-- rootstream: no-transaction\nCREATE INDEX CONCURRENTLY i ON a (x)")
    write("0003_create_b.sql", "CREATE TABLE b ()")
    database.execute("CREATE TABLE a (x int)")
    with pytest.raises(MigrationError, match=r"0002_index_a\.sql: there is no valid index i on a"):
        migrations.baseline(empty_database_url, 2, directory)
    database.execute("CREATE INDEX i ON a (x)")
    assert [entry.version for entry in migrations.baseline(empty_database_url, 2, directory)] == [1, 2]
    assert [entry.version for entry in migrations.apply(empty_database_url, directory)] == [3]
    assert tables(database) == {"a", "b"}


def test_refused(empty_database_url: str, database: Connection, directory: Path, write: Write) -> None:
    write("0001_create_a.sql", "CREATE TABLE public.a ()")
    with pytest.raises(MigrationError, match="no file has version 5; there are 1 to 1"):
        migrations.baseline(empty_database_url, 5, directory)
    database.execute("CREATE TABLE a ()")
    # A name with its schema cannot be tried elsewhere.
    with pytest.raises(MigrationError, match=r"0001_create_a\.sql: cannot be tried in a schema of its own"):
        migrations.baseline(empty_database_url, 1, directory)
    assert ledger(database) == []
    migrations.baseline(empty_database_url, 1, directory, check=False)
    with pytest.raises(MigrationError, match="on record up to version 1: a baseline comes first"):
        migrations.baseline(empty_database_url, 1, directory)
