"""Files that run alone: CREATE INDEX CONCURRENTLY that fails, is killed, is repaired, and only its own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from rootstream_store import migrations
from rootstream_store.errors import MigrationError
from rootstream_store.migrations._files import read_files
from rootstream_store.migrations._index import NamedIndex, index_of

from .conftest import Connection, Write, ledger, runner_pid, until, value

ALONE = "-- rootstream: no-transaction\n"
VALID = "SELECT (SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s))"


@pytest.mark.parametrize(
    ("sql", "index"),
    [
        ("CREATE INDEX CONCURRENTLY i ON t (x)", ("i", "t")),
        ("create unique index concurrently if not exists I on only T using btree (x)", ("i", "T")),
        ('CREATE INDEX /* on */ CONCURRENTLY "I ""x" ON app."T t"(x)', ('I "x', 'app."T t"')),
        ("CREATE INDEX CONCURRENTLY i ON a . b (x)", ("i", "a . b")),
        ("CREATE INDEX i ON t (x)", None),
        ("DROP INDEX CONCURRENTLY i", None),
        ("VACUUM", None),
    ],
)
def test_index_that_a_file_names(
    directory: Path, write: Write, sql: str, index: tuple[str, str] | None
) -> None:
    write("0001_a.sql", ALONE + sql)
    assert index_of(read_files(directory)[0]) == (NamedIndex(*index) if index else None)


def test_index_must_have_a_name(empty_database_url: str, directory: Path, write: Write) -> None:
    write("0001_a.sql", ALONE + "CREATE INDEX CONCURRENTLY ON t (x)")
    with pytest.raises(MigrationError, match=r"0001_a\.sql: .*must have a name"):
        migrations.apply(empty_database_url, directory)


def test_runs_alone(empty_database_url: str, database: Connection, directory: Path, write: Write) -> None:
    database.execute("CREATE TABLE t (x int)")
    write("0001_create_index.sql", ALONE + "CREATE INDEX CONCURRENTLY i ON t (x)")
    write("0002_vacuum_t.sql", ALONE + "VACUUM t;")
    assert len(migrations.apply(empty_database_url, directory)) == 2
    assert migrations.apply(empty_database_url, directory) == []
    assert value(database, VALID, "i") is True


def test_failed_statement_leaves_nothing(
    empty_database_url: str, database: Connection, directory: Path, write: Write
) -> None:
    write("0001_create_t.sql", "CREATE TABLE t (x int); INSERT INTO t VALUES (1), (1)")
    write("0002_vacuum_t.sql", ALONE + "\nVACUUM nowhere")
    with pytest.raises(MigrationError, match=r"0002_vacuum_t\.sql:3: relation \"nowhere\" does not exist"):
        migrations.apply(empty_database_url, directory)
    assert ledger(database) == [(1, "applied")]


def test_failed_index_is_taken_away_and_built_by_the_next_run(
    empty_database_url: str, database: Connection, directory: Path, write: Write
) -> None:
    database.execute("CREATE TABLE t (x int); INSERT INTO t VALUES (1), (1)")
    with pytest.raises(psycopg.errors.UniqueViolation):
        database.execute("CREATE UNIQUE INDEX CONCURRENTLY of_somebody_else ON t (x)")
    assert value(database, VALID, "of_somebody_else") is False
    write(
        "0001_create_index.sql", ALONE + 'CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS "I" ON public.t (x)'
    )
    with pytest.raises(MigrationError) as caught:
        migrations.apply(empty_database_url, directory)
    assert (caught.value.sqlstate, caught.value.constraint) == ("23505", "I")
    assert value(database, VALID, '"I"') is None
    assert ledger(database) == []
    assert value(database, VALID, "of_somebody_else") is False, "only the index that the file names"
    database.execute("DELETE FROM t")
    assert len(migrations.apply(empty_database_url, directory)) == 1
    assert value(database, VALID, '"I"') is True


def _kill_build(url: str, database: Connection, directory: Path) -> None:
    """Applies an index build, and kills its server process while it waits for an older transaction."""
    with psycopg.connect(url) as writer, ThreadPoolExecutor(1) as pool:
        writer.execute("INSERT INTO t VALUES (1)")
        run = pool.submit(migrations.apply, url, directory)
        until(lambda: value(database, VALID, "i") is False, "the index to be begun")
        pid = runner_pid(database, "CREATE INDEX")
        assert pid is not None
        database.execute("SELECT pg_terminate_backend(%s)", [pid])
        with pytest.raises(MigrationError, match=r"connection was lost .*on record as running") as caught:
            run.result(timeout=60)
        assert caught.value.retryable
    assert value(database, VALID, "i") is False
    assert ledger(database) == [(1, "running")]


@pytest.fixture(params=["", "IF NOT EXISTS "])
def killed(
    empty_database_url: str,
    database: Connection,
    directory: Path,
    write: Write,
    request: pytest.FixtureRequest,
) -> None:
    """Version 1 is running, its index begun and invalid."""
    database.execute("CREATE TABLE t (x int)")
    write("0001_create_index.sql", f"{ALONE}CREATE INDEX CONCURRENTLY {request.param}i ON t (x)")
    _kill_build(empty_database_url, database, directory)


@pytest.mark.usefixtures("killed")
def test_killed_build_is_repaired_by_the_next_run(
    empty_database_url: str, database: Connection, directory: Path
) -> None:
    status = migrations.status(empty_database_url, directory)
    assert [(entry.state, entry.problem) for entry in status.entries] == [("running", None)]
    assert len(migrations.apply(empty_database_url, directory)) == 1
    assert value(database, VALID, "i") is True
    assert ledger(database) == [(1, "applied")]


@pytest.mark.usefixtures("killed")
def test_killed_build_is_resolved_as_not_applied(
    empty_database_url: str, database: Connection, directory: Path
) -> None:
    with pytest.raises(MigrationError, match="no valid index i on t, so it is not applied"):
        migrations.resolve(empty_database_url, 1, directory, applied=True)
    assert ledger(database) == [(1, "running")]
    migrations.resolve(empty_database_url, 1, directory, applied=False)
    assert value(database, VALID, "i") is None
    assert ledger(database) == []


@pytest.mark.usefixtures("killed")
def test_killed_build_that_somebody_finished(
    empty_database_url: str, database: Connection, directory: Path
) -> None:
    database.execute("REINDEX INDEX i")
    made = value(database, "SELECT pg_relation_filenode('i')")
    assert len(migrations.apply(empty_database_url, directory)) == 1
    assert value(database, "SELECT pg_relation_filenode('i')") == made, "a valid index is not built again"


@pytest.mark.usefixtures("killed")
def test_edited_while_half_done(empty_database_url: str, directory: Path, write: Write) -> None:
    write("0001_create_index.sql", ALONE + "CREATE INDEX CONCURRENTLY other ON t (x)")
    with pytest.raises(MigrationError, match="was edited after it was running"):
        migrations.apply(empty_database_url, directory)


def test_invalid_index_of_somebody_else_is_refused(
    empty_database_url: str, database: Connection, directory: Path, write: Write
) -> None:
    database.execute("CREATE TABLE t (x int); INSERT INTO t VALUES (1), (1)")
    with pytest.raises(psycopg.errors.UniqueViolation):
        database.execute("CREATE UNIQUE INDEX CONCURRENTLY i ON t (x)")
    write("0001_create_index.sql", ALONE + "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS i ON t (x)")
    with pytest.raises(MigrationError, match="invalid index i that this runner did not begin"):
        migrations.apply(empty_database_url, directory)
    assert value(database, VALID, "i") is False
    assert ledger(database) == []


def test_waiting_for_old_transactions_is_not_cut_short(
    empty_database_url: str, database: Connection, directory: Path, write: Write
) -> None:
    database.execute("CREATE TABLE t (x int)")
    write("0001_create_index.sql", ALONE + "CREATE INDEX CONCURRENTLY i ON t (x)")
    waiting = (
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE query LIKE 'CREATE INDEX%%' AND wait_event_type = 'Lock' AND datname = current_database() "
        "AND clock_timestamp() - query_start > %s * interval '1 second'"
    )
    with psycopg.connect(empty_database_url) as writer, ThreadPoolExecutor(1) as pool:
        writer.execute("INSERT INTO t VALUES (1)")
        run = pool.submit(migrations.apply, empty_database_url, directory, lock_timeout=0.05)
        until(lambda: value(database, waiting, 0.5), "a wait ten times the lock timeout")
        writer.commit()
        assert len(run.result(timeout=60)) == 1


def test_clean_up_that_is_blocked_is_done_by_the_next_try(
    empty_database_url: str, database: Connection, directory: Path, write: Write
) -> None:
    """A build fails, and a reader keeps its index from being dropped until it ends."""
    database.execute("CREATE TABLE t (x int); INSERT INTO t VALUES (1), (1)")
    write("0001_create_index.sql", ALONE + "CREATE UNIQUE INDEX CONCURRENTLY i ON t (x)")
    blocked = "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'"
    with psycopg.connect(empty_database_url) as reader, ThreadPoolExecutor(1) as pool:
        reader.execute("SET default_transaction_isolation = 'read committed'")
        reader.commit()
        reader.execute("LOCK TABLE t IN ACCESS SHARE MODE")
        run = pool.submit(migrations.apply, empty_database_url, directory, lock_timeout=0.2, wait=60)
        until(lambda: value(database, blocked), "the drop to be blocked")
        until(lambda: not value(database, blocked), "the drop to step back")
        assert not run.done()
        reader.rollback()
        with pytest.raises(MigrationError) as caught:
            run.result(timeout=60)
    assert caught.value.sqlstate == "23505"
    assert value(database, VALID, "i") is None
    assert ledger(database) == []


def test_cut_off_statement_must_be_resolved(
    empty_database_url: str, database: Connection, directory: Path, write: Write
) -> None:
    write("0001_end_it.sql", ALONE + "SELECT pg_terminate_backend(pg_backend_pid())")
    with pytest.raises(MigrationError, match="connection was lost"):
        migrations.apply(empty_database_url, directory)
    with pytest.raises(MigrationError, match=r"0001_end_it\.sql: .*`migrate resolve 1 --applied` or"):
        migrations.apply(empty_database_url, directory)
    with pytest.raises(MigrationError, match="version 2 of line 'app' was never begun"):
        migrations.resolve(empty_database_url, 2, directory, applied=True)
    migrations.resolve(empty_database_url, 1, directory, applied=True)
    assert ledger(database) == [(1, "applied")]
    with pytest.raises(
        MigrationError, match="version 1 of line 'app' is applied: there is nothing to resolve"
    ):
        migrations.resolve(empty_database_url, 1, directory, applied=False)


def test_lock_lost_in_a_file_without_transaction(
    empty_database_url: str, database: Connection, directory: Path, write: Write
) -> None:
    write("0001_discard_all.sql", ALONE + "DISCARD ALL")
    with pytest.raises(MigrationError, match="lock of the migration run was lost"):
        migrations.apply(empty_database_url, directory)
    assert ledger(database) == [(1, "running")]
