"""`Store.health()`: right about servers that are well, full, frozen and gone, in bounded time."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import LiteralString

import msgspec
import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

from rootstream_store import migrations
from rootstream_store._probe import probe
from rootstream_store.database import fetch_one
from rootstream_store.embedded import EmbeddedServers
from rootstream_store.errors import StoreClosed, Timeout
from rootstream_store.health import Health
from rootstream_store.queries import Query
from rootstream_store.settings import Settings
from rootstream_store.store import Store

_NOBODY = "redis://:geheim@127.0.0.1:1/0"
"""Nothing listens on port 1."""


@contextlib.contextmanager
def own_postgres(**settings: str) -> Iterator[EmbeddedServers]:
    """A migrated server that a test may stop or freeze."""
    with EmbeddedServers.start(redis=False, durable=False, settings=settings) as servers:
        migrations.apply(servers.database_url)
        yield servers


@contextlib.contextmanager
def frozen(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.005)


def test_all_well(store: Store) -> None:
    health = store.health()
    assert (health.status, health.reasons) == ("ok", ())
    assert health.postgres.reachable
    assert health.postgres.latency_ms is not None
    assert 0 < health.postgres.latency_ms < 1000
    with psycopg.connect(store.settings.database_url) as connection:
        assert health.postgres.database == connection.info.dbname
        assert health.postgres.server_version == connection.execute("SHOW server_version").fetchall()[0][0]
    assert (health.postgres.is_primary, health.postgres.is_read_only) == (True, False)
    assert (health.pool.max, health.pool.in_use, health.pool.waiting) == (8, 0, 0)
    assert health.pool.size >= 1
    assert health.pool.name == store._pool.name
    assert health.redis.reachable
    assert health.migrations.version == migrations.status(store).version > 0
    assert (health.migrations.pending, health.migrations.problems) == ((), ())


def test_is_json(store: Store) -> None:
    health = store.health()
    assert msgspec.json.decode(msgspec.json.encode(health), type=Health) == health


def test_counts_what_the_pool_does(store: Store) -> None:
    before = store.health().pool
    with store.transaction():
        during = store.health().pool
    assert during.in_use == before.in_use + 1
    assert during.requests == before.requests + 1
    assert store.health().pool.in_use == before.in_use


def test_without_redis_is_ok(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REDIS_URL", raising=False)
    with Store.open(database_url) as store:
        health = store.health()
    assert health.status == "ok"
    assert not health.redis.enabled


def test_redis_down_is_degraded(database_url: str) -> None:
    with Store.open(database_url, _NOBODY) as store:
        started = time.monotonic()
        health = store.health()
        assert time.monotonic() - started < 2
    assert health.status == "degraded"
    assert health.postgres.reachable
    assert not health.redis.reachable
    assert [reason for reason in health.reasons if reason.startswith("Redis: ")] == list(health.reasons) != []


def test_shows_no_password(database_url: str) -> None:
    with Store.open(make_conninfo(database_url, password="auchgeheim"), _NOBODY) as store:
        health = store.health()
    for text in (repr(health), msgspec.json.encode(health).decode()):
        assert "geheim" not in text
        assert "***" in text


def test_empty_database_has_all_migrations_pending(empty_database_url: str, redis_url: str) -> None:
    with Store.open(empty_database_url, redis_url) as store:
        health = store.health()
        assert health.status == "degraded"
        assert health.migrations.version == 0
        assert list(health.migrations.pending) == [file.name for file in migrations.plan(store)] != []
        assert "pending" in health.reasons[0]
        migrations.apply(store)
        assert store.health().status == "ok"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            "INSERT INTO schema_migrations (line, version, name, checksum, state, duration_ms)"
            " VALUES ('rootstream', 9999, '9999_from_tomorrow.sql', repeat('0', 64), 'applied', 1)",
            "newer than these files",
        ),
        ("UPDATE schema_migrations SET checksum = repeat('0', 64) WHERE version = 1", "was edited"),
        ("ALTER TABLE schema_migrations RENAME COLUMN checksum TO hash", "not ours"),
    ],
)
def test_migrations_that_do_not_fit_are_degraded(store: Store, change: LiteralString, told: str) -> None:
    with psycopg.connect(store.settings.database_url, autocommit=True) as connection:
        connection.execute(change)
    health = store.health()
    assert health.status == "degraded"
    assert health.postgres.reachable
    assert told in "".join(health.reasons)


def test_ledger_that_the_role_may_not_read_is_degraded(database_url: str) -> None:
    role = f"rs_health_{os.getpid()}"
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(SQL("CREATE ROLE {} LOGIN PASSWORD 'geheim'").format(Identifier(role)))
        try:
            with Store.open(make_conninfo(database_url, user=role, password="geheim")) as store:
                health = store.health()
        finally:
            connection.execute(SQL("DROP ROLE {}").format(Identifier(role)))
    assert health.status == "degraded"
    assert health.postgres.reachable
    assert "permission denied" in (health.migrations.error or "")


def test_locked_ledger_is_told_in_bounded_time(store: Store) -> None:
    with psycopg.connect(store.settings.database_url) as connection:
        connection.execute("LOCK TABLE schema_migrations IN ACCESS EXCLUSIVE MODE")
        started = time.monotonic()
        health = store.health()
        assert time.monotonic() - started < 3
    assert health.status == "degraded"
    assert health.postgres.reachable
    assert "lock timeout" in (health.migrations.error or "")


def test_read_only_database_is_degraded(store: Store) -> None:
    with psycopg.connect(store.settings.database_url, autocommit=True) as connection:
        name = Identifier(connection.info.dbname)
        connection.execute(SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(name))
    health = store.health()
    assert health.status == "degraded"
    assert (health.postgres.is_primary, health.postgres.is_read_only) == (True, True)
    assert "read-only, writes fail" in health.reasons[0]


def test_standby_is_degraded() -> None:
    # Not below tmp_path: started by root, the server runs under an account that may not enter there.
    with tempfile.TemporaryDirectory() as parent:
        Path(parent).chmod(0o755)
        home = Path(parent) / "servers"
        with EmbeddedServers.start(home, redis=False, durable=False) as servers:
            migrations.apply(servers.database_url)
        # No primary is needed: the file alone keeps the server in recovery.
        (home / "postgres" / "standby.signal").touch()
        with (
            EmbeddedServers.start(home, redis=False, durable=False) as servers,
            Store.open(servers.database_url) as store,
        ):
            health = store.health()
    assert health.status == "degraded"
    assert (health.postgres.is_primary, health.postgres.is_read_only) == (False, True)
    assert health.reasons == ("PostgreSQL: a standby, writes fail",)


def test_exhausted_pool_is_degraded_and_told_apart_from_a_server_that_is_down(
    database_url: str, redis_url: str
) -> None:
    with Store.open(database_url, redis_url, pool_size=1) as store:
        with store.transaction():
            started = time.monotonic()
            health = store.health()
            assert time.monotonic() - started < 2
        assert health.status == "degraded"
        assert health.postgres.reachable
        assert health.pool.exhausted
        assert "exhausted: all 1 connections are in use" in health.reasons[0]
        assert store._pool.name in health.reasons[0]
        health = store.health()
        assert (health.status, health.pool.exhausted) == ("ok", False)


def test_full_pool_that_moves_is_ok(database_url: str, redis_url: str) -> None:
    with Store.open(database_url, redis_url, pool_size=1) as store:
        connection = store._pool.acquire()

        def give_back() -> None:
            until(lambda: store._pool.stats()["requests_waiting"] > 0)
            store._pool.release(connection)

        thread = threading.Thread(target=give_back)
        thread.start()
        health = store.health()
        thread.join()
        assert (health.status, health.pool.exhausted) == ("ok", False)


def test_server_out_of_connections_is_degraded_while_the_pool_has_some() -> None:
    with (
        own_postgres(max_connections="5", superuser_reserved_connections="0") as servers,
        Store.open(servers.database_url) as store,
        contextlib.ExitStack() as others,
    ):
        taken = 1
        with contextlib.suppress(psycopg.OperationalError):
            for taken in range(10):  # noqa: B007  # read below
                others.enter_context(psycopg.connect(servers.database_url))
        assert taken < 5
        health = store.health()
        assert health.status == "degraded"
        assert health.postgres.reachable
        assert "too many clients" in health.reasons[0]
        assert health.migrations.version
        others.close()


def test_server_down_is_told_and_not_raised() -> None:
    with own_postgres() as servers, Store.open(servers.database_url, _NOBODY) as store:
        assert store.health().status == "degraded"
        servers.stop()
        started = time.monotonic()
        health = store.health()
        assert time.monotonic() - started < 3
        assert health.status == "down"
        assert not health.postgres.reachable
        assert health.postgres.latency_ms is None
        assert health.postgres.error
        assert health.migrations.version is None
        assert [reason.partition(":")[0] for reason in health.reasons] == ["PostgreSQL", "Redis"]


def test_frozen_server_is_down_within_the_connect_timeout() -> None:
    with own_postgres() as servers, Store.open(servers.database_url, connect_timeout=2) as store:
        with psycopg.connect(servers.database_url) as connection:
            (directory,) = connection.execute("SHOW data_directory").fetchall()[0]
        pid = int(Path(directory, "postmaster.pid").read_text().splitlines()[0])
        with frozen(pid):
            started = time.monotonic()
            health = store.health()
            assert 1.5 < time.monotonic() - started < 4
        assert health.status == "down"
        assert "timeout" in (health.postgres.error or "")


def test_server_frozen_after_the_connection_was_made_is_cut_off() -> None:
    one: Query[int] = Query("tests/get_one", "-- One.\nSELECT 1 AS one", int)

    def ask(settings: Settings) -> None:
        with probe(settings) as connection:
            assert fetch_one(connection, one, {}) == 1
            with frozen(connection.info.backend_pid):
                fetch_one(connection, one, {})

    with own_postgres() as servers:
        settings = Settings.create(database_url=servers.database_url, connect_timeout=2)
        started = time.monotonic()
        with pytest.raises(Timeout, match="did not answer within 2 s"):
            ask(settings)
        assert 1.5 < time.monotonic() - started < 4


def test_leaves_no_connection_behind(store: Store) -> None:
    for _ in range(3):
        store.health()
    left: Query[int] = Query(
        "tests/count_others",
        "-- Connections of health checks.\nSELECT count(*) AS n FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name LIKE '%%health'",
        int,
    )
    # The server notices a closed connection a moment later.
    until(lambda: store.one(left) == 0)


def test_closed_store_says_so(database_url: str) -> None:
    store = Store.open(database_url)
    store.close()
    with pytest.raises(StoreClosed):
        store.health()
