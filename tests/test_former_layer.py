"""What the former C++ layer got wrong and no other test here would see come back.

Most of its defects are tested where they belong: tests/test_users.py, tests/test_streams_live.py,
tests/events and so on. Each test below says which one it is for.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import typing
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import UnionType

import msgspec
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from rootstream_store import (
    Secret,
    Store,
    migrations,
    records,
    sessions,
    stream_sessions,
    streams,
    usage,
    users,
)
from rootstream_store.cache import keys
from rootstream_store.embedded import EmbeddedServers
from rootstream_store.errors import MigrationError, RootStreamError, Timeout, Unavailable

from .factories import make_stream, make_user
from .statements import BACKEND, SLEEP


def test_a_migration_that_cannot_run_leaves_the_store_in_use(store: Store, tmp_path: Path) -> None:
    r"""Its own file held a psql command (\i): the first run failed, and the pool was then empty for ever."""
    (tmp_path / "0001_create_things.sql").write_text("CREATE TABLE things (id bigint);\n\\i more.sql\n")
    for _ in range(store.settings.pool_size + 1):
        with pytest.raises(MigrationError) as caught:
            migrations.apply(store, tmp_path)
        assert (caught.value.file, caught.value.line) == ("0001_create_things.sql", 2)
    user = make_user(store)
    assert users.get(store, user.id) == user
    (tmp_path / "0001_create_things.sql").write_text("CREATE TABLE things (id bigint);\n")
    assert [applied.name for applied in migrations.apply(store, tmp_path)] == ["0001_create_things.sql"]


def test_no_two_callers_have_one_connection(database_url: str) -> None:
    """A connection could be given back twice, or inside a transaction: two callers then worked on one."""
    held: set[int] = set()
    lock = threading.Lock()
    shared: list[int] = []

    def work(number: int) -> None:
        for turn in range(20):
            try:
                with store.transaction() as tx:
                    backend = tx.one(BACKEND)
                    with lock:
                        shared.extend(held & {backend})
                        held.add(backend)
                    try:
                        assert tx.one(BACKEND) == backend
                        if (number + turn) % 3 == 0:
                            make_user(tx, username="")
                    finally:
                        with lock:
                            held.discard(backend)
            except RootStreamError:
                assert (number + turn) % 3 == 0

    with Store.open(database_url, pool_size=4, pool_timeout=30) as store:
        with ThreadPoolExecutor(16) as threads:
            list(threads.map(work, range(16)))
        assert store._pool.in_use() == 0
        assert users.list_(store) == []
    assert shared == []


def test_a_read_is_one_round_trip_of_a_prepared_statement(database_url: str) -> None:
    """BEGIN and COMMIT were round trips around each read, and nothing was prepared: 255 µs for libpq's 28."""
    with Store.open(database_url, pool_size=1) as store, tempfile.TemporaryFile() as trace:
        user = make_user(store)
        for _ in range(10):  # psycopg prepares at the sixth
            users.get(store, user.id)
        connection = store._pool.acquire()
        connection.pgconn.trace(trace.fileno())
        store._pool.release(connection)
        assert users.get(store, user.id) == user
        connection = store._pool.acquire()
        connection.pgconn.untrace()
        store._pool.release(connection)
        trace.seek(0)
        sent = re.findall(r"^(?:.*\t)?F\t\d+\t(\w+)", trace.read().decode(), re.MULTILINE)
    assert "Bind" in sent, "the trace was read"
    assert [message for message in sent if message in ("Sync", "Query")] == ["Sync"]
    assert "Parse" not in sent


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A directory that the account of the server may enter, which pytest's own are not when root runs it."""
    with tempfile.TemporaryDirectory(prefix="rsl-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


def test_a_restart_of_postgresql_is_survived_by_an_open_store(reachable: Path) -> None:
    """It reported connected, each pooled connection failed once, and then every call hung."""
    address = reachable / ".s.PGSQL.5432"

    def start() -> EmbeddedServers:
        servers = EmbeddedServers.start(reachable / "data", redis=False, durable=False)
        address.unlink(missing_ok=True)
        # The same address over restarts, as a server in production has it.
        address.symlink_to(Path(str(conninfo_to_dict(servers.database_url)["host"])) / address.name)
        return servers

    servers = start()
    try:
        url = make_conninfo(servers.database_url, host=str(reachable))
        migrations.apply(url)
        with Store.open(url, pool_size=4, pool_timeout=1, retry_deadline=2) as store:
            user = make_user(store)
            barrier = threading.Barrier(4)

            def hold(_: int) -> None:
                with store.transaction() as tx:
                    barrier.wait(10)
                    users.get(tx, user.id)

            with ThreadPoolExecutor(4) as threads:
                list(threads.map(hold, range(4)))
            for _ in range(2):
                servers.stop()
                started = time.monotonic()
                with pytest.raises((Unavailable, Timeout)) as caught:
                    make_user(store)
                assert caught.value.retryable or getattr(caught.value, "outcome_unknown", False)
                assert time.monotonic() - started < 15
                servers = start()
                # Each pooled connection is dead; a read is tried again by itself.
                assert [users.get(store, user.id) for _ in range(8)] == [user] * 8
                assert users.record_login(store, user.id).id == user.id
                user = users.get(store, user.id)
            assert store._pool.in_use() == 0
    finally:
        servers.stop()


def test_the_first_use_by_many_threads_at_once(database_url: str, redis_url: str) -> None:
    """Initialisation raced with use. In a fresh process: nothing is imported, opened or prepared yet."""
    script = textwrap.dedent(
        """
        import sys, threading
        barrier = threading.Barrier(12)
        done = []
        def first(number):
            barrier.wait(30)
            from rootstream_store import Store, users, streams
            with Store.open(sys.argv[1], sys.argv[2], pool_size=2) as store:
                assert users.list_(store) == []
                assert streams.list_live(store) == []
            done.append(number)
        threads = [threading.Thread(target=first, args=(n,)) for n in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert sorted(done) == list(range(12)), done
        """
    )
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, database_url, redis_url],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_one_store_used_first_by_many_threads_and_closed_under_them(
    database_url: str, redis_url: str
) -> None:
    """Cleaning up while others wait for a connection hung."""
    store = Store.open(database_url, redis_url, pool_size=2, pool_timeout=30)
    user = make_user(store)
    under_way = threading.Semaphore(0)
    ends: list[str] = []

    def work() -> None:
        try:
            while True:
                users.get(store, user.id)
                under_way.release()
        except RootStreamError as error:
            ends.append(type(error).__name__)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(100):
        assert under_way.acquire(timeout=30)
    started = time.monotonic()
    store.close()
    for thread in threads:
        thread.join(10)
    assert time.monotonic() - started < 8
    assert ends == ["StoreClosed"] * 8


def test_no_table_has_a_time_without_a_zone_or_a_number_for_one(database_url: str) -> None:
    """Times had no zone, and came as floating point from old servers."""
    with psycopg.connect(database_url) as connection:
        columns = connection.execute(
            """
            SELECT table_name || '.' || column_name, data_type FROM information_schema.columns
            WHERE table_schema = 'public' AND (
                data_type IN ('timestamp without time zone', 'time without time zone', 'date')
                OR column_name ~ '(_at|_start|_end|_activity|^timestamp)$'
                AND data_type <> 'timestamp with time zone'
            )
            """
        ).fetchall()
    assert columns == []


def test_a_time_is_the_same_moment_in_every_time_zone(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGTZ", "America/St_Johns")
    elsewhere = make_conninfo(database_url, options="-c TimeZone=Asia/Kolkata")
    with Store.open(database_url) as store, Store.open(elsewhere) as far:
        user = make_user(far)
        assert users.get(store, user.id) == user
        assert user.created_at.utcoffset() is not None
        assert abs(user.created_at - datetime.now(UTC)) < timedelta(minutes=1)
        moment = datetime(2026, 3, 1, 2, 30, tzinfo=UTC) - timedelta(hours=5)
        usage.log(far, user.id, event_type="viewer_join", bytes_transferred=1, created_at=moment)
        for where in (store, far):
            (month,) = usage.list_months(where, user.id, months=1200)
            assert (month.month.year, month.month.month) == (2026, 2)


def _leaves(kind: object) -> list[object]:
    return (
        [leaf for part in typing.get_args(kind) for leaf in _leaves(part)]
        if typing.get_args(kind)
        else [kind]
    )


@pytest.mark.parametrize("name", records.__all__)
def test_no_record_hands_out_a_secret_as_text(name: str) -> None:
    """Records of users had the password hash, and whoever printed a stream printed its key."""
    for field, kind in typing.get_type_hints(getattr(records, name)).items():
        assert "password" not in field
        if re.search(r"key|token|secret", field) and field != "token_hash":
            assert _leaves(kind) == [Secret], field
        assert not (isinstance(kind, UnionType) and Secret in _leaves(kind)), field


def test_an_hour_on_air_does_not_end_the_broadcast(store: Store) -> None:
    """Being live was a key of one hour in Redis; the number of viewers was never read and never stored."""
    stream = make_stream(store)
    streams.start(store, stream.id)
    streams.update_stats(store, stream.id, viewer_count=150)
    stream_sessions.add_viewers(store, stream.id, joined=5)
    assert streams.is_live(store, stream.id)
    store.redis.delete(keys.live(stream.id), keys.viewers(stream.id))
    assert streams.is_live(store, stream.id)
    assert streams.get_viewer_count(store, stream.id) == 155
    assert [live.id for live in streams.list_live(store)] == [stream.id]
    session = streams.stop(store, stream.id)
    assert (session.peak_viewers, session.total_viewers) == (155, 155)


def test_a_login_session_outlives_its_key_in_redis(store: Store) -> None:
    user = make_user(store)
    token = sessions.create(store, user.id, lifetime=timedelta(days=30)).token
    sessions.validate(store, token)
    store.redis.flushdb()
    assert sessions.validate(store, token).user_id == user.id


def test_no_index_repeats_another(database_url: str) -> None:
    """Five indexes repeated what a UNIQUE had already: each append took 41 µs for 22."""
    with psycopg.connect(database_url) as connection:
        rows = connection.execute(
            """
            SELECT i.indexrelid::regclass::text, i.indrelid::regclass::text, i.indisunique,
                am.amname || coalesce(pg_get_expr(i.indpred, i.indrelid), ''),
                array(
                    SELECT pg_get_indexdef(i.indexrelid, k, true) FROM generate_series(1, i.indnkeyatts) AS k
                )
            FROM pg_index AS i
            JOIN pg_class AS c ON c.oid = i.indexrelid
            JOIN pg_am AS am ON am.oid = c.relam
            WHERE c.relnamespace = 'public'::regnamespace
            """
        ).fetchall()
    assert len(rows) > 15
    repeated = [
        f"{name} is the beginning of {other}"
        for name, table, unique, kind, columns in rows
        for other, other_table, _, other_kind, other_columns in rows
        if name != other
        and (table, kind) == (other_table, other_kind)
        and other_columns[: len(columns)] == columns
        # A shorter unique one says more than a longer one.
        and (not unique or columns == other_columns)
    ]
    assert repeated == []


def test_a_slow_call_holds_up_nobody_else(store: Store) -> None:
    """One mutex serialised all Redis calls, and a waiting call on a small pool stopped the rest."""
    user = make_user(store)
    token = sessions.create(store, user.id).token
    sleeping = threading.Thread(target=lambda: store.run(SLEEP, seconds=1.0))
    sleeping.start()
    with store.subscribe("nothing is sent here") as messages:
        waiting = threading.Thread(target=lambda: messages.get(timeout=1))
        waiting.start()
        calls = 0
        while sleeping.is_alive():
            sessions.validate(store, token)
            users.get(store, user.id)
            calls += 1
        waiting.join()
    sleeping.join()
    assert calls > 20


def test_records_are_values_that_nobody_can_change(store: Store) -> None:
    """A model was a row in memory: after a failed load it was still the row before, and a save wrote it."""
    user = make_user(store)
    with pytest.raises(AttributeError):
        user.username = "root"  # type: ignore[misc]  # wrong on purpose
    assert msgspec.structs.replace(user, username="root") != user
