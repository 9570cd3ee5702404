"""Housekeeping: partitions ahead, retention, expired sessions; and the command that a timer runs."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg
import pytest

from rootstream_store import maintenance
from rootstream_store.cli import main
from rootstream_store.errors import InvalidInput, RootStreamError, Timeout
from rootstream_store.maintenance import MaintenanceReport
from rootstream_store.repositories import usage
from rootstream_store.store import Store

from .factories import make_user


@pytest.fixture
def connection(database_url: str) -> Any:
    with psycopg.connect(database_url, autocommit=True) as opened:
        yield opened


def months(connection: psycopg.Connection) -> list[str]:
    rows = connection.execute(
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'usage_logs'::regclass ORDER BY 1"
    ).fetchall()
    return [name.removeprefix("usage_logs_") for (name,) in rows]


def month_name(first: date, offset: int) -> str:
    number = first.year * 12 + first.month - 1 + offset
    return f"y{number // 12}m{number % 12 + 1:02}"


def this_month(connection: psycopg.Connection) -> date:
    row = connection.execute("SELECT date_trunc('month', now() AT TIME ZONE 'UTC')::date").fetchone()
    assert row is not None
    found: date = row[0]
    return found


def add_session(connection: psycopg.Connection, user_id: int, number: int, *, expired: bool) -> None:
    connection.execute(
        "INSERT INTO sessions (token_hash, user_id, created_at, expires_at) "
        "VALUES (%s, %s, now() - interval '2 days', now() + %s)",
        [hashlib.sha256(bytes([number])).digest(), user_id, timedelta(days=-1 if expired else 1)],
    )


def test_makes_the_months_ahead_once(store: Store, connection: psycopg.Connection) -> None:
    now = this_month(connection)
    assert months(connection) == ["default", *(month_name(now, offset) for offset in range(3))]
    report = maintenance.run(store, months_ahead=14)
    assert report == MaintenanceReport(
        usage_partitions_created=12, usage_partitions_dropped=0, sessions_deleted=0, invalidations_deleted=0
    )
    assert months(connection) == ["default", *(month_name(now, offset) for offset in range(15))]
    assert maintenance.run(store, months_ahead=14).usage_partitions_created == 0


def test_keeps_all_usage_unless_told(store: Store, connection: psycopg.Connection) -> None:
    user = make_user(store)
    connection.execute("SELECT usage_logs_create_partitions('2001-01-01', 2)")
    usage.log(store, user.id, event_type="x", created_at=datetime(2001, 1, 5, tzinfo=UTC))
    maintenance.run(store)
    total = usage.total_by_user(
        store, user.id, since=datetime(2000, 1, 1, tzinfo=UTC), until=datetime(2100, 1, 1, tzinfo=UTC)
    )
    assert total.events == 1


def test_drops_whole_months_before_the_ones_to_keep(store: Store, connection: psycopg.Connection) -> None:
    user = make_user(store)
    now = this_month(connection)
    start = datetime(now.year, now.month, 1, tzinfo=UTC)
    last_month = (start - timedelta(days=1)).replace(day=1, hour=0, minute=0)
    before_last = (last_month - timedelta(days=1)).replace(day=1)
    connection.execute("SELECT usage_logs_create_partitions(%s, 3)", [before_last.date()])
    for moment in (
        start,
        last_month,
        last_month - timedelta(microseconds=1),
        datetime(1999, 1, 1, tzinfo=UTC),  # in the default partition
    ):
        usage.log(store, user.id, event_type="x", created_at=moment)
    report = maintenance.run(store, months_ahead=1, keep_usage_months=1)
    assert (report.usage_partitions_created, report.usage_partitions_dropped) == (0, 1)
    kept = connection.execute("SELECT created_at FROM usage_logs ORDER BY created_at").fetchall()
    assert kept == [(last_month,), (start,)]
    assert month_name(now, -1) in months(connection)
    assert month_name(now, -2) not in months(connection)
    assert maintenance.run(store, months_ahead=1, keep_usage_months=1).usage_partitions_dropped == 0


def test_deletes_expired_sessions_only(store: Store, connection: psycopg.Connection) -> None:
    user = make_user(store)
    for number in range(6):
        add_session(connection, user.id, number, expired=number % 3 != 0)
    assert maintenance.run(store).sessions_deleted == 4
    assert connection.execute("SELECT count(*) FROM sessions WHERE expires_at > now()").fetchall() == [(2,)]
    assert maintenance.run(store).sessions_deleted == 0


@pytest.mark.parametrize("name", ["months_ahead", "keep_usage_months"])
@pytest.mark.parametrize("value", [0, -1, 1201, 1.5, "3", True])
def test_numbers_that_are_none_are_refused(
    store: Store, connection: psycopg.Connection, name: str, value: Any
) -> None:
    before = months(connection)
    with pytest.raises(InvalidInput) as caught:
        maintenance.run(store, **{name: value})
    assert caught.value.field == name
    assert months(connection) == before


def test_several_at_once_do_no_harm(store: Store, connection: psycopg.Connection) -> None:
    now = this_month(connection)
    with ThreadPoolExecutor(4) as pool:
        reports = list(
            pool.map(lambda _: maintenance.run(store, months_ahead=6, keep_usage_months=2), range(4))
        )
    assert sum(report.usage_partitions_created for report in reports) == 4
    assert months(connection) == ["default", *(month_name(now, offset) for offset in range(7))]


def test_a_rolled_back_run_changes_nothing(store: Store, connection: psycopg.Connection) -> None:
    before = months(connection)
    with contextlib.suppress(KeyError), store.transaction() as transaction:
        assert maintenance.run(transaction, months_ahead=9).usage_partitions_created == 7
        raise KeyError
    assert months(connection) == before


def test_a_locked_table_is_told_in_time_and_no_writer_queues(
    database_url: str, connection: psycopg.Connection
) -> None:
    with (
        psycopg.connect(database_url) as holder,
        Store.open(database_url, lock_timeout=0.1) as impatient,
    ):
        holder.execute("LOCK TABLE usage_logs_default IN ACCESS SHARE MODE")
        with pytest.raises(Timeout) as caught:
            maintenance.run(impatient, months_ahead=9)
        assert caught.value.retryable
        assert caught.value.query == "sql/maintenance/create_usage_partitions.sql"
        holder.rollback()
        assert maintenance.run(impatient, months_ahead=9).usage_partitions_created == 7


@pytest.mark.parametrize("holder_of", ["users", "usage_logs"])
def test_behind_a_long_transaction_it_gives_up_before_those_behind_it_do(
    store: Store, database_url: str, connection: psycopg.Connection, holder_of: str
) -> None:
    # Logins queue behind a lock that is waited for: without a limit for as long as a statement may take.
    assert store.settings.lock_timeout == 0
    connection.execute("SELECT usage_logs_create_partitions('2001-01-01', 1)")
    with psycopg.connect(database_url) as holder:
        if holder_of == "users":
            holder.execute("LOCK TABLE users IN ROW EXCLUSIVE MODE")  # as a login that is not committed
        else:
            holder.execute("LOCK TABLE ONLY usage_logs IN ACCESS SHARE MODE")
        started = time.monotonic()
        with pytest.raises(Timeout) as caught:
            maintenance.run(store, months_ahead=9, keep_usage_months=1)
        assert 1.5 < time.monotonic() - started < 10
        assert caught.value.retryable
        what = "create" if holder_of == "users" else "drop"
        assert caught.value.query == f"sql/maintenance/{what}_usage_partitions.sql"
    assert maintenance.run(store, months_ahead=9, keep_usage_months=1).usage_partitions_dropped == 1


def test_the_limit_of_the_functions_ends_with_them(store: Store, connection: psycopg.Connection) -> None:
    with connection.transaction():
        connection.execute("SELECT usage_logs_create_partitions(now()::date, 12)")
        connection.execute("SELECT usage_logs_drop_partitions('2001-01-01')")
        assert connection.execute("SHOW lock_timeout").fetchone() == ("0",)


def test_each_month_is_committed_by_itself(store: Store, connection: psycopg.Connection) -> None:
    now = this_month(connection)
    # A type of this name is in the way of the table.
    connection.execute(f"CREATE TYPE usage_logs_{month_name(now, 6)} AS ENUM ()".encode())
    with pytest.raises(RootStreamError):
        maintenance.run(store, months_ahead=9)
    assert months(connection) == ["default", *(month_name(now, offset) for offset in range(6))]


def test_each_month_is_dropped_by_itself_the_oldest_first(
    store: Store, connection: psycopg.Connection
) -> None:
    user = make_user(store)
    usage.log(store, user.id, event_type="x", created_at=datetime(1999, 1, 1, tzinfo=UTC))
    connection.execute("SELECT usage_logs_create_partitions('2001-01-01', 2)")
    # A view is in the way of the second.
    connection.execute("CREATE VIEW in_the_way AS SELECT 1 FROM usage_logs_y2001m02")
    with pytest.raises(RootStreamError):
        maintenance.run(store, keep_usage_months=1)
    assert [name for name in months(connection) if name.startswith("y2001")] == ["y2001m02"]
    connection.execute("DROP VIEW in_the_way")
    assert maintenance.run(store, keep_usage_months=1).usage_partitions_dropped == 1
    assert connection.execute("SELECT count(*) FROM usage_logs").fetchone() == (0,)


def test_writers_of_today_go_on_while_months_are_made(store: Store) -> None:
    user = make_user(store)
    stop = threading.Event()

    def write() -> int:
        written = 0
        while not stop.is_set():
            usage.log(store, user.id, event_type="x")
            written += 1
        return written

    with ThreadPoolExecutor(3) as pool:
        writers = [pool.submit(write) for _ in range(3)]
        try:
            for ahead in range(3, 15):
                assert maintenance.run(store, months_ahead=ahead).usage_partitions_created == 1
        finally:
            stop.set()
        written = sum(writer.result() for writer in writers)
    total = usage.list_months(store, user.id)
    assert sum(month.events for month in total) == written


# --- the command


def test_command_tells_what_it_did(
    database_url: str, connection: psycopg.Connection, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    user = make_user(store)
    add_session(connection, user.id, 1, expired=True)
    connection.execute("SELECT usage_logs_create_partitions('2001-01-01', 2)")
    code = main(
        [
            "maintain",
            "--database-url",
            database_url,
            "--months-ahead",
            "4",
            "--keep-usage-months",
            "12",
            "--json",
        ]
    )
    assert code == 0
    assert json.loads(capsys.readouterr().out) == {
        "usage_partitions_created": 2,
        "usage_partitions_dropped": 2,
        "sessions_deleted": 1,
        "invalidations_deleted": 0,
        "invalidations_swept": 0,
    }


def test_command_in_words_with_the_url_from_the_environment(
    database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    assert main(["maintain"]) == 0
    assert capsys.readouterr().out == (
        "usage partitions: 1 made, 0 dropped\nexpired sessions: 0 deleted\n"
        "invalidations: 0 swept, 0 outdated ones deleted\n"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--months-ahead", "0"], 1, "months_ahead: must be an integer from 1 to 1200"),
        (["--keep-usage-months", "-1"], 1, "keep_usage_months: must be an integer from 1 to 1200"),
        (["--lock-timeout", "-1"], 2, "lock_timeout"),
    ],
)
def test_command_refuses_bad_numbers(
    database_url: str, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, told: str
) -> None:
    assert main(["maintain", "--database-url", database_url, *arguments]) == code
    assert told in capsys.readouterr().err


def test_command_on_a_server_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    url = "postgresql://someone:hunter2@127.0.0.1:1/nothing"
    assert main(["maintain", "--database-url", url]) == 1
    told = capsys.readouterr().err
    assert "error: cannot reach" in told
    assert "hunter2" not in told
