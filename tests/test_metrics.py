"""Metrics: what they say is what was really done, on servers that are up, locked and gone."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from prometheus_client import Counter
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import CollectorRegistry

from rootstream_store import events, metrics, migrations
from rootstream_store.db import CachedQuery
from rootstream_store.embedded import EmbeddedServers
from rootstream_store.errors import InvalidInput, NotFound, SettingsError, Timeout
from rootstream_store.metrics import BUCKETS, Metrics
from rootstream_store.queries import Query
from rootstream_store.repositories import streams, users, viewers
from rootstream_store.store import Store

from .factories import make_stream, make_user

_NOBODY = "redis://:geheim@127.0.0.1:1/0"
"""Nothing listens on port 1."""
_OPERATING_NOTES = Path(__file__).parent.parent / "docs" / "operating.md"

_DIVIDE: Query[int] = Query("tests/divide", "-- One by n.\nSELECT 1 / %(n)s::bigint AS result", int)
_SLEEP: Query[bool] = Query(
    "tests/sleep", "-- A while.\nSELECT pg_sleep(%(seconds)s::double precision) IS NULL AS none", bool
)


class Scrape:
    """The samples of one scrape, by name and labels."""

    def __init__(self, text: bytes) -> None:
        self.text = text.decode()
        families = list(text_string_to_metric_families(self.text))
        self.samples = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in families
            for sample in family.samples
        }
        assert len(self.samples) == sum(len(family.samples) for family in families), "a sample came twice"
        self.names = {name for name, _ in self.samples}

    def __call__(self, name: str, **labels: str) -> float | None:
        """The value of rootstream_<name>, None when it is not there."""
        return self.samples.get((f"rootstream_{name}", tuple(sorted(labels.items()))))

    def labels(self, name: str, label: str) -> set[str]:
        return {dict(labels)[label] for found, labels in self.samples if found == f"rootstream_{name}"}


def scrape(store: Store) -> Scrape:
    return Scrape(metrics.generate(store))


def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.005)


def test_counts_queries_by_name(store: Store) -> None:
    user = make_user(store)
    Metrics(store)
    for _ in range(3):
        users.get_by_email(store, user.email)
    with pytest.raises(NotFound):
        users.get_by_email(store, "nobody@example.com")
    with store.transaction() as transaction:
        users.get_by_email(transaction, user.email)
    found = scrape(store)
    assert found("query_seconds_count", query="users/get_by_email") == 5
    assert found.labels("query_seconds_count", "query") == {"users/get_by_email"}
    assert found("query_seconds_bucket", query="users/get_by_email", le="+Inf") == 5
    # No row is an answer, not an error of the query.
    assert "rootstream_query_errors_total" not in found.names


def test_counts_errors_by_class(store: Store) -> None:
    Metrics(store)
    for n in (1, 0, 0):
        with contextlib.suppress(InvalidInput):
            store.one(_DIVIDE, n=n)
    found = scrape(store)
    assert found("query_seconds_count", query="tests/divide") == 3
    assert found("query_errors_total", query="tests/divide", error="InvalidInput") == 2


def test_time_falls_into_its_bucket(store: Store) -> None:
    Metrics(store)
    started = time.perf_counter()
    store.one(_SLEEP, seconds=0.06)
    took = time.perf_counter() - started
    found = scrape(store)
    buckets = [found("query_seconds_bucket", query="tests/sleep", le=str(bound)) for bound in BUCKETS]
    assert buckets == [float(bound >= took) for bound in BUCKETS]
    assert buckets[BUCKETS.index(0.05)] == 0
    total = found("query_seconds_sum", query="tests/sleep")
    assert total is not None
    assert 0.06 <= total <= took


def test_loses_no_count_among_threads(store: Store) -> None:
    measured = Metrics(store)

    def work() -> None:
        for _ in range(2000):
            measured._observe("tests/nothing", lambda: None)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert scrape(store)("query_seconds_count", query="tests/nothing") == 16000


def test_costs_little() -> None:
    measured = Metrics.__new__(Metrics)
    measured._series, measured._lock = {}, threading.Lock()

    def nothing() -> None: ...

    def time_of(call: Callable[[], Any]) -> float:
        rounds = []
        for _ in range(300):
            started = time.perf_counter()
            for _ in range(50):
                call()
            rounds.append((time.perf_counter() - started) / 50)
        return min(rounds)

    # About 1 µs; prometheus_client's own histogram takes three times as long.
    assert time_of(lambda: measured._observe("users/get", nothing)) - time_of(nothing) < 4e-6


def test_pool_in_use_waiting_and_exhausted(database_url: str, redis_url: str) -> None:
    with Store.open(database_url, redis_url, pool_size=1, pool_timeout=0.7) as store:
        before = scrape(store)
        assert before("pool_connections", state="idle") == 1
        assert before("pool_connections", state="in_use") == 0
        assert before("pool_connections_max") == 1
        assert before("pool_exhausted") == 0
        outcomes: list[type[Exception]] = []

        def wait() -> None:
            try:
                store.one(_DIVIDE, n=1)
            except Timeout as error:
                outcomes.append(type(error))

        with store.transaction():
            thread = threading.Thread(target=wait)
            thread.start()
            until(lambda: store._pool.stats()["requests_waiting"] == 1)
            during = scrape(store)
            thread.join()
        after = scrape(store)
    assert during("pool_connections", state="in_use") == 1
    assert during("pool_waiting") == 1
    assert during("pool_exhausted") == 1
    assert outcomes == [Timeout]
    assert after("query_errors_total", query="tests/divide", error="Timeout") == 1
    assert after("pool_waiting") == 0
    for name in ("pool_requests_queued_total", "pool_requests_failed_total", "pool_requests_total"):
        now, then = after(name), before(name)
        assert now is not None
        assert then is not None
        assert now > then, name
    assert after("pool_connects_total") == 1


def test_waiting_time_is_counted(database_url: str) -> None:
    with Store.open(database_url, pool_size=1) as store:
        connection = store._pool.acquire()
        thread = threading.Thread(target=lambda: store.one(_DIVIDE, n=1))
        thread.start()
        until(lambda: store._pool.stats()["requests_waiting"] == 1)
        started = time.monotonic()
        until(lambda: time.monotonic() - started > 0.05)
        store._pool.release(connection)
        thread.join()
        waited = scrape(store)("pool_wait_seconds_total")
    assert waited is not None
    assert 0.05 <= waited < 5


def test_cache_hits_and_misses(store: Store) -> None:
    user = make_user(store)
    cached = CachedQuery(users._GET, key=lambda user_id: f"user:{user_id}", ttl=60)
    for _ in range(3):
        assert store.cached(cached, user_id=user.id) == user
    found = scrape(store)
    assert found("cache_misses_total") == 1
    assert found("cache_fills_total") == 1
    assert found("cache_hits_total") == 2
    assert found("redis_up") == 1
    assert found("redis_breaker_open") == 0
    memory = found("redis_memory_bytes")
    assert memory is not None
    assert memory > 100_000


def test_near_cache(database_url: str, redis_url: str) -> None:
    with Store.open(database_url, redis_url, near_cache_entries=10) as store:
        stream = make_stream(store)

        def hits() -> float:
            streams.is_live(store, stream.id)
            return scrape(store)("near_cache_hits_total") or 0

        until(lambda: hits() > 0)
        found = scrape(store)
        assert found("near_cache_up") == 1
        assert found("near_cache_entries") == 1
        assert (found("near_cache_bytes") or 0) > 0


def test_event_log_growth(store: Store) -> None:
    assert scrape(store)("event_log_position_total") == 0
    assert scrape(store)("event_log_events") is None
    with psycopg.connect(store.settings.database_url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO event_log (aggregate_id, aggregate_type, version, event_type, event_data)"
            " SELECT 'a', 'stream', n, 'Grew', '{}' FROM generate_series(1, 500) AS n"
        )
        connection.execute("ANALYZE event_log")
    found = scrape(store)
    assert found("event_log_position_total") == 500
    assert found("event_log_events") == 500


def test_sizes_of_every_table_partitions_included(store: Store) -> None:
    user = make_user(store)
    before = scrape(store)
    with psycopg.connect(store.settings.database_url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO usage_logs (user_id, event_type)"
            " SELECT %s::bigint, 'viewer_join' FROM generate_series(1, 1000)",
            [user.id],
        )
        tables = connection.execute(
            "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition"
            " AND relnamespace = current_schema()::regnamespace"
        ).fetchall()
        ((heap, index),) = connection.execute(
            "SELECT sum(pg_table_size(relid)), sum(pg_indexes_size(relid))"
            " FROM pg_partition_tree('usage_logs')"
        ).fetchall()
        ((users_heap, users_index),) = connection.execute(
            "SELECT pg_table_size('users'), pg_indexes_size('users')"
        ).fetchall()
    found = scrape(store)
    # A table that a later migration makes must be named in the query too.
    assert found.labels("table_bytes", "table") == {name for (name,) in tables}
    assert found.labels("table_index_bytes", "table") == {name for (name,) in tables}
    assert found("table_bytes", table="usage_logs") == heap
    assert found("table_index_bytes", table="usage_logs") == index
    assert found("table_bytes", table="users") == users_heap
    assert found("table_index_bytes", table="users") == users_index
    then = before("table_bytes", table="usage_logs")
    assert then is not None
    assert heap > then
    assert found("scrape_sizes_read") == 1


def test_lag_of_subscriptions(store: Store) -> None:
    assert "rootstream_subscription_lag_positions" not in scrape(store).names
    events.append(store, "T", "a", "E", {})
    one = events.Subscription(store, "one", lambda tx, event: 1 // 0, max_attempts=1)
    one.catch_up()
    events.Subscription(store, "two", lambda tx, event: None, partitions=2).register()
    found = scrape(store)
    assert found("subscription_lag_positions", subscription="one", partition="0") == 0
    assert found("subscription_lag_seconds", subscription="one", partition="0") == 0
    assert found("subscription_parked", subscription="one", partition="0") == 1
    assert found("subscription_lag_positions", subscription="two", partition="1") == 1
    seconds = [found("subscription_lag_seconds", subscription="two", partition=str(n)) for n in range(2)]
    assert sorted(value is not None and value > 0 for value in seconds) == [False, True]


def test_locked_table_costs_the_sizes_alone(store: Store) -> None:
    with psycopg.connect(store.settings.database_url) as connection:
        connection.execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
        started = time.monotonic()
        found = scrape(store)
        assert time.monotonic() - started < 3
    assert found("postgres_up") == 1
    assert found("scrape_sizes_read") == 0
    assert "rootstream_table_bytes" not in found.names


def test_empty_database(empty_database_url: str) -> None:
    with Store.open(empty_database_url) as store:
        found = scrape(store)
        pending = len(migrations.plan(store))
    assert found("postgres_up") == 1
    assert found("migration_version") == 0
    assert found("migrations_pending") == pending > 0
    assert found("scrape_sizes_read") == 1
    assert "rootstream_table_bytes" not in found.names
    assert "rootstream_event_log_position_total" not in found.names


def test_servers_down_are_zeros_and_not_an_error() -> None:
    with (
        EmbeddedServers.start(redis=False, durable=False) as servers,
        Store.open(servers.database_url, _NOBODY) as store,
    ):
        assert scrape(store)("postgres_up") == 1
        servers.stop()
        started = time.monotonic()
        found = scrape(store)
        assert time.monotonic() - started < 3
    assert found("postgres_up") == 0
    assert found("redis_up") == 0
    for name in ("table_bytes", "postgres_latency_seconds", "migration_version", "redis_memory_bytes"):
        assert f"rootstream_{name}" not in found.names
    assert found("pool_connections_max") == 8
    assert "geheim" not in found.text


def test_without_redis_nothing_is_said_of_it(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REDIS_URL", raising=False)
    with Store.open(database_url) as store:
        found = scrape(store)
    assert not [name for name in found.names if name.startswith(("rootstream_redis", "rootstream_cache"))]


def test_a_registry_of_the_application(store: Store) -> None:
    registry = CollectorRegistry()
    Counter("orders", "Of the application.", registry=registry).inc()
    measured = Metrics(store, registry)
    found = Scrape(measured.generate())
    assert found.samples["orders_total", ()] == 1
    assert found("postgres_up") == 1
    measured.close()
    assert "rootstream_postgres_up" not in Scrape(measured.generate()).names


def test_one_metrics_a_store_and_one_store_a_registry(store: Store, database_url: str) -> None:
    registry = CollectorRegistry()
    first = Metrics(store, registry)
    with pytest.raises(SettingsError, match="has its Metrics already"):
        Metrics(store)
    with Store.open(database_url) as other:
        with pytest.raises(SettingsError, match="metrics of another store"):
            Metrics(other, registry)
        other.one(_DIVIDE, n=1)
        assert scrape(other)("query_seconds_count", query="tests/divide") is None
    store.one(_DIVIDE, n=1)
    assert Scrape(first.generate())("query_seconds_count", query="tests/divide") == 1


def test_closing_stops_the_counting(store: Store) -> None:
    first = Metrics(store)
    store.one(_DIVIDE, n=1)
    first.close()
    first.close()
    store.one(_DIVIDE, n=1)
    second = Metrics(store)
    store.one(_DIVIDE, n=1)
    first.close()
    assert Scrape(second.generate())("query_seconds_count", query="tests/divide") == 1
    assert first._queries()[0].samples[-2].value == 1


def test_closing_the_store_leaves_the_registry(database_url: str) -> None:
    registry = CollectorRegistry()
    for _ in range(2):
        with Store.open(database_url) as store:
            assert Scrape(Metrics(store, registry).generate())("postgres_up") == 1
    assert list(registry.collect()) == []


@pytest.mark.parametrize(
    ("port", "addr"),
    [
        *((port, "127.0.0.1") for port in (None, "9187", True, 1.0, -1, 2**16, 10**30)),
        *((0, addr) for addr in (None, 5, "", "\0", "\ud800", "x" * 300, "no such host")),
    ],
)
def test_where_nothing_can_be_served_is_told(store: Store, port: Any, addr: Any) -> None:
    with pytest.raises(SettingsError, match="metrics"):
        metrics.serve(store, port, addr)


def test_served_over_http(store: Store) -> None:
    with metrics.serve(store, 0) as server:
        store.one(_DIVIDE, n=1)
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=10) as answer:
            found = Scrape(answer.read())
        assert found("postgres_up") == 1
        assert found("query_seconds_count", query="tests/divide") == 1
        with pytest.raises(SettingsError, match=f"127.0.0.1 port {server.port}: Address already in use"):
            metrics.serve(store, server.port)
        port = server.port
    server.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)
    metrics.serve(store, port).close()
    with pytest.raises(SettingsError, match="port 70000"):
        metrics.serve(store, 70000)


def test_operating_notes_list_every_metric(store: Store) -> None:
    notes = _OPERATING_NOTES.read_text(encoding="utf-8")
    described = list(Metrics(store).describe())
    assert len(described) > 30
    for metric in described:
        assert metric.name.startswith("rootstream_")
        assert metric.documentation.endswith((".", ")"))
        shown = f"{metric.name}_total" if metric.type == "counter" else metric.name
        assert f"`{shown}`" in notes, shown


def test_only_described_metrics_are_collected(database_url: str, redis_url: str) -> None:
    with Store.open(database_url, redis_url, near_cache_entries=10) as store:
        measured = Metrics(store)
        make_user(store)
        events.Subscription(store, "all", lambda tx, event: None).register()
        names = {metric.name for metric in measured.describe()}
        with viewers.Flusher(store):
            until(lambda: store.health().flushes.age_seconds is not None)
            collected = {metric.name for metric in measured.collect()}
    assert collected <= names
    assert names - collected == {"rootstream_event_log_events"}  # not yet analysed
