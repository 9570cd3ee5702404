"""Several runners, other people's locks, and runs that are killed half way."""

from __future__ import annotations

import json
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from rootstream_store import migrations
from rootstream_store.errors import MigrationError, Timeout
from rootstream_store.migrations._session import _LOCK_KEY

from .conftest import Connection, Write, command, finish, ledger, runner_pid, snapshot, tables, until, value


def test_four_processes_at_once(
    empty_database_url: str, database: Connection, directory: Path, write: Write
) -> None:
    for number in range(1, 6):
        write(f"000{number}_create_t.sql", f"CREATE TABLE t{number} (x int); SELECT pg_sleep(0.05)")
    # A waiter inside the server would deadlock with this one.
    write("0006_create_index.sql", "-- rootstream: no-transaction\nCREATE INDEX CONCURRENTLY i ON t1 (x)")
    runs = [command(empty_database_url, "apply", "--path", str(directory), "--json") for _ in range(4)]
    results = [finish(run) for run in runs]
    assert [(code, err) for code, _out, err in results] == [(0, "")] * 4
    counts = sorted(len(json.loads(out)) for _code, out, _err in results)
    assert counts == [0, 0, 0, 6], "one runner applies all, the others find nothing to do"
    assert tables(database) == {"t1", "t2", "t3", "t4", "t5"}
    assert ledger(database) == [(number, "applied") for number in range(1, 7)]
    assert value(database, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0


def test_another_runner_holds_the_lock_for_too_long(
    empty_database_url: str, database: Connection, directory: Path, write: Write
) -> None:
    write("0001_create_a.sql", "CREATE TABLE a ()")
    database.execute("SET application_name = 'deployment 7'")
    database.execute("SELECT pg_advisory_lock(%s)", [_LOCK_KEY])
    with pytest.raises(
        Timeout, match=r"holds the lock for more than 0.2 s: server process .*deployment 7"
    ) as caught:
        migrations.apply(empty_database_url, directory, wait=0.2)
    assert caught.value.retryable
    assert tables(database) == set()
    database.execute("SELECT pg_advisory_unlock(%s)", [_LOCK_KEY])
    assert len(migrations.apply(empty_database_url, directory, wait=0.2)) == 1


def test_steps_back_for_a_reader_and_goes_on_when_it_ends(
    empty_database_url: str,
    database: Connection,
    directory: Path,
    write: Write,
    caplog: pytest.LogCaptureFixture,
) -> None:
    database.execute("CREATE TABLE a (x int)")
    write("0001_create_b.sql", "CREATE TABLE b (); ALTER TABLE a ADD y int;")
    with (
        psycopg.connect(empty_database_url) as reader,
        ThreadPoolExecutor(1) as pool,
        caplog.at_level(logging.INFO, "rootstream_store.migrations"),
    ):
        reader.execute("SELECT * FROM a")
        run = pool.submit(migrations.apply, empty_database_url, directory, lock_timeout=0.05, wait=60)
        until(lambda: caplog.text.count("waits for locks of others (55P03)") >= 2, "two tries")
        # Between two tries nobody queues behind the runner; it would be for as long as the reader reads.
        database.execute("SET statement_timeout = '10s'")
        database.execute("SELECT * FROM a")
        assert tables(database) == {"a"}
        assert not run.done()
        reader.rollback()
        (applied,) = run.result(timeout=60)
    assert applied.version == 1
    assert value(database, "SELECT count(y) FROM a") == 0


def test_gives_up_on_a_reader_that_does_not_end(
    empty_database_url: str, database: Connection, directory: Path, write: Write
) -> None:
    database.execute("CREATE TABLE a (x int)")
    write("0001_create_b.sql", "CREATE TABLE b ();\nALTER TABLE a ADD y int;")
    before = snapshot(database)
    with psycopg.connect(empty_database_url) as reader:
        reader.execute("SELECT * FROM a")
        with pytest.raises(MigrationError) as caught:
            migrations.apply(empty_database_url, directory, lock_timeout=0.05, wait=0.3)
    error = caught.value
    assert (error.sqlstate, error.retryable, error.file, error.line) == (
        "55P03",
        True,
        "0001_create_b.sql",
        2,
    )
    assert snapshot(database) == before


def test_a_deadlock_is_tried_again(
    empty_database_url: str,
    database: Connection,
    directory: Path,
    write: Write,
    caplog: pytest.LogCaptureFixture,
) -> None:
    database.execute("CREATE TABLE a (); CREATE TABLE b ()")
    # Waits for the other's lock on b, while the other then waits for ours on a.
    write(
        "0001_lock_both.sql",
        "SET LOCAL deadlock_timeout = '2s'; LOCK TABLE a; LOCK TABLE b; CREATE TABLE c ()",
    )
    with (
        psycopg.connect(empty_database_url) as other,
        ThreadPoolExecutor(1) as pool,
        caplog.at_level(logging.INFO, "rootstream_store.migrations"),
    ):
        # Longer than the test: the runner must find the deadlock. It looks once, 2 s into its wait.
        other.execute("SET deadlock_timeout = '10min'")
        other.execute("LOCK TABLE b")
        run = pool.submit(migrations.apply, empty_database_url, directory, lock_timeout=60, wait=60)
        until(
            lambda: value(
                database, "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'b'::regclass"
            ),
            "the runner to wait for b",
        )
        other.execute("LOCK TABLE a")
        other.commit()
        run.result(timeout=60)
    assert "waits for locks of others (40P01)" in caplog.text
    assert tables(database) == {"a", "b", "c"}


def test_killed_backend(empty_database_url: str, database: Connection, directory: Path, write: Write) -> None:
    write(
        "0001_create_a.sql",
        "CREATE TABLE a (); SELECT pg_terminate_backend(pg_backend_pid()); CREATE TABLE b ()",
    )
    with pytest.raises(MigrationError, match=r"the connection was lost .*the file was rolled back") as caught:
        migrations.apply(empty_database_url, directory)
    assert (caught.value.file, caught.value.retryable) == ("0001_create_a.sql", True)
    assert snapshot(database) == []
    write("0001_create_a.sql", "CREATE TABLE a ()")
    assert len(migrations.apply(empty_database_url, directory)) == 1


def test_killed_runner_and_the_next_goes_on(
    empty_database_url: str, database: Connection, directory: Path, write: Write
) -> None:
    write("0001_create_a.sql", "CREATE TABLE a ()")
    write("0002_create_b.sql", "CREATE TABLE b (); SELECT pg_sleep(600)")
    run = command(empty_database_url, "apply", "--path", str(directory))
    until(lambda: runner_pid(database, "SELECT pg_sleep"), "the second file to run")
    run.kill()
    finish(run)
    assert ledger(database) == [(1, "applied")]
    write("0002_create_b.sql", "CREATE TABLE b ()")
    # The server process of the killed runner goes on until it notices, in about a second.
    assert [entry.version for entry in migrations.apply(empty_database_url, directory, wait=30)] == [2]
    assert tables(database) == {"a", "b"}


def test_waits_for_a_runner_that_is_in_the_middle_of_a_file_without_transaction(
    empty_database_url: str, database: Connection, directory: Path, write: Write
) -> None:
    """What it has on record as running is at work, not broken."""
    write("0001_wait_long.sql", "-- rootstream: no-transaction\nSELECT pg_advisory_lock_shared(1)")
    database.execute("SELECT pg_advisory_lock(1)")
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(migrations.apply, empty_database_url, directory, lock_timeout=60)
        until(lambda: ledger(database) == [(1, "running")], "the first runner to begin")
        second = pool.submit(migrations.apply, empty_database_url, directory)
        until(
            lambda: value(
                database,
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle' "
                "AND query LIKE '-- Is the lock of the migration runner ours%%'",
            ),
            "the second runner to ask for the lock",
        )
        assert not second.done()
        database.execute("SELECT pg_advisory_unlock(1)")
        assert len(first.result(timeout=60)) == 1
        assert second.result(timeout=60) == []


def test_two_threads_with_lines_of_their_own(
    empty_database_url: str, database: Connection, directory: Path, write: Write
) -> None:
    write("0001_create_a.sql", "CREATE TABLE IF NOT EXISTS a (); SELECT pg_sleep(0.1)")
    start = threading.Barrier(2)

    def run(line: str) -> int:
        start.wait()
        return len(migrations.apply(empty_database_url, directory, line=line))

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(run, ["one", "two"])) == [1, 1]
    assert ledger(database, "one") == ledger(database, "two") == [(1, "applied")]
