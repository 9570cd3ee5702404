"""The metrics that are read at a scrape: pool, cache, servers, and how large the tables are."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from rootstream_store._flushes import Flushes
from rootstream_store._probe import probe
from rootstream_store.cache import Cache, CacheHealth
from rootstream_store.database import Pool, fetch_all, fetch_one
from rootstream_store.errors import RootStreamError, StoreClosed
from rootstream_store.health import Health, PoolHealth, check
from rootstream_store.queries import query
from rootstream_store.records import Horizon, SubscriptionLag

__all__ = ["EventLogGrowth", "TableSize", "collect", "describe"]

_log = logging.getLogger("rootstream_store.metrics")


class TableSize(msgspec.Struct, frozen=True, kw_only=True):
    """How large one table is, its partitions included. In bytes."""

    table: str
    table_bytes: int
    index_bytes: int


class EventLogGrowth(msgspec.Struct, frozen=True, kw_only=True):
    """How long the event log is. None: not migrated, or not yet analysed by autovacuum."""

    estimated_events: int | None
    last_position: int | None


_LIST_TABLE_SIZES = query("metrics/list_table_sizes", TableSize)
_GET_EVENT_LOG_GROWTH = query("metrics/get_event_log_growth", EventLogGrowth)
_GET_HORIZON = query("events/get_horizon", Horizon)
_LIST_LAG = query("subscriptions/list_lag", SubscriptionLag)


_SUBSCRIPTIONS_SINCE = 6
"""The migration that made their tables."""

_Kind = type[GaugeMetricFamily] | type[CounterMetricFamily]
_G, _C = GaugeMetricFamily, CounterMetricFamily

_METRICS: dict[str, tuple[_Kind, str, tuple[str, ...]]] = {
    "build_info": (_G, "1; the label tells the version of the library.", ("version",)),
    "postgres_up": (_G, "1 when PostgreSQL answers, 0 when it does not.", ()),
    "postgres_primary": (_G, "1 when the server is a primary, 0 when it is a standby.", ()),
    "postgres_writable": (_G, "1 when the server takes writes, 0 when it is read-only.", ()),
    "postgres_latency_seconds": (_G, "Time of one query on an open connection.", ()),
    "pool_connections": (_G, "Connections of the pool, by what they do.", ("state",)),
    "pool_connections_max": (_G, "Connections that the pool may open.", ()),
    "pool_waiting": (_G, "Calls that wait for a connection now.", ()),
    "pool_exhausted": (_G, "1 when no connection became free within half a second.", ()),
    "pool_requests": (_C, "Connections asked for.", ()),
    "pool_requests_queued": (_C, "Requests that had to wait for a connection.", ()),
    "pool_requests_failed": (_C, "Requests that got no connection, one each half second of waiting.", ()),
    "pool_wait_seconds": (
        _C,
        "Time that calls waited for a connection, each wait in whole milliseconds.",
        (),
    ),
    "pool_connects": (_C, "Attempts to open a connection.", ()),
    "pool_connects_failed": (_C, "Attempts to open a connection that failed.", ()),
    "pool_connect_seconds": (_C, "Time that opening connections took.", ()),
    "pool_connections_lost": (_C, "Connections found to be broken.", ()),
    "pool_connections_returned_broken": (_C, "Connections that broke during a call.", ()),
    "cache_hits": (_C, "Cached answers that came from Redis.", ()),
    "cache_misses": (_C, "Cached answers that came from PostgreSQL, for whatever reason.", ()),
    "cache_fills": (_C, "Loaded answers that Redis took.", ()),
    "cache_fills_refused": (_C, "Loaded answers not kept, since the row was written meanwhile.", ()),
    "cache_invalidations_pending": (_G, "Keys to be removed as soon as Redis is back.", ()),
    "near_cache_up": (_G, "1 while Redis tells the near-cache of changes. Absent where there is none.", ()),
    "near_cache_entries": (_G, "Answers kept in this process.", ()),
    "near_cache_bytes": (_G, "Size of these answers.", ()),
    "near_cache_hits": (_C, "Cached answers that came from this process itself.", ()),
    "near_cache_invalidated": (_C, "Answers removed since what they told had changed.", ()),
    "near_cache_evicted": (_C, "Answers removed to make room.", ()),
    "near_cache_refused": (_C, "Answers not kept, since what they told changed meanwhile.", ()),
    "near_cache_dropped": (_C, "Times that all was dropped: the connection was lost, Redis flushed.", ()),
    "redis_up": (_G, "1 when Redis answers, 0 when it does not. Absent without a redis_url.", ()),
    "redis_latency_seconds": (_G, "Time of one PING.", ()),
    "redis_memory_bytes": (_G, "Memory that the Redis server has allocated.", ()),
    "redis_breaker_open": (_G, "1 while calls do not wait for Redis, since it failed.", ()),
    "redis_breaker_opened": (_C, "Times that the breaker opened.", ()),
    "redis_failures": (_C, "Attempts that got no answer from Redis.", ()),
    "redis_refusals": (_C, "Attempts that Redis answered with an error.", ()),
    "redis_skipped": (_C, "Attempts not made, since the breaker was open.", ()),
    "redis_effects_lost": (_C, "Messages and plain values that did not reach Redis.", ()),
    "cache_invalidations_waiting": (_G, "Changes whose keys nobody has removed from Redis yet.", ()),
    "cache_invalidations_oldest_seconds": (_G, "Age of the oldest of them, 0 when there is none.", ()),
    "viewer_flushes": (_C, "Complete flushes of viewers by this process.", ()),
    "viewer_flushes_failed": (_C, "Flushes of viewers that a server did not answer.", ()),
    "viewer_flush_age_seconds": (_G, "Time since the last complete one. Absent without a Flusher.", ()),
    "migration_version": (_G, "The highest applied migration.", ()),
    "migrations_pending": (_G, "Migrations still to be applied.", ()),
    "migration_problems": (_G, "Migrations that `migrate apply` would refuse.", ()),
    "table_bytes": (_G, "Size of a table with TOAST and partitions, without indexes.", ("table",)),
    "table_index_bytes": (_G, "Size of all indexes of a table, partitions included.", ("table",)),
    "event_log_events": (_G, "Events in the log, as the planner estimates; absent until analysed.", ()),
    "event_log_position": (_C, "Positions handed out: events appended, and some rolled back.", ()),
    "subscription_lag_positions": (
        _G,
        "Positions from the checkpoint to the horizon of the log.",
        ("subscription", "partition"),
    ),
    "subscription_lag_seconds": (
        _G,
        "Age of the oldest event that was not handled, 0 when there is none.",
        ("subscription", "partition"),
    ),
    "subscription_parked": (_G, "Events given up after their attempts.", ("subscription", "partition")),
    "scrape_sizes_read": (
        _G,
        "1 when the table sizes could be read, 0 when a lock or a right was missing.",
        (),
    ),
}


def describe() -> list[Metric]:
    """Every metric there may be, with no value."""
    return [
        kind(f"rootstream_{name}", text, labels=labels) for name, (kind, text, labels) in _METRICS.items()
    ]


def collect(pool: Pool, cache: Cache, flushes: Flushes) -> Iterable[Metric]:
    """What is known now; of a server that is down only that it is."""
    try:
        health = check(pool, cache, flushes)
    except StoreClosed:
        return []
    families = _Families()
    families.set("build_info", 1, health.version or "")
    _add_postgres(families, health)
    _add_pool(families, health.pool)
    if health.redis.enabled:
        _add_redis(families, health.redis)
        if health.invalidations.waiting is not None:
            families.set("cache_invalidations_waiting", health.invalidations.waiting)
            families.set("cache_invalidations_oldest_seconds", health.invalidations.oldest_seconds or 0.0)
        if health.redis.near.state != "off":
            _add_near_cache(families, health.redis)
    families.set("viewer_flushes", health.flushes.done)
    families.set("viewer_flushes_failed", health.flushes.failed)
    families.set("viewer_flush_age_seconds", health.flushes.age_seconds)
    if health.postgres.reachable:
        _add_sizes(families, pool)
        # A standby does not know up to where the log is complete; an empty database has no subscriptions.
        if health.postgres.is_primary and (health.migrations.version or 0) >= _SUBSCRIPTIONS_SINCE:
            _add_subscriptions(families, pool)
    return families.filled()


class _Families:
    def __init__(self) -> None:
        self._families = dict(zip(_METRICS, describe(), strict=True))

    def set(self, name: str, value: float | None, *labels: str) -> None:
        """None: not known, so no sample rather than one that misleads."""
        family = self._families[name]
        if value is not None:
            assert isinstance(family, GaugeMetricFamily | CounterMetricFamily)
            family.add_metric(labels, value)

    def filled(self) -> list[Metric]:
        return [family for family in self._families.values() if family.samples]


def _add_postgres(families: _Families, health: Health) -> None:
    postgres, schema = health.postgres, health.migrations
    families.set("postgres_up", postgres.reachable)
    families.set("postgres_primary", postgres.is_primary)
    if postgres.is_read_only is not None:
        families.set("postgres_writable", not postgres.is_read_only)
    families.set("postgres_latency_seconds", _seconds(postgres.latency_ms))
    families.set("migration_version", schema.version)
    if schema.version is not None:
        families.set("migrations_pending", len(schema.pending))
        families.set("migration_problems", len(schema.problems))


def _add_pool(families: _Families, pool: PoolHealth) -> None:
    families.set("pool_connections", pool.in_use, "in_use")
    families.set("pool_connections", max(0, pool.size - pool.in_use), "idle")
    families.set("pool_connections_max", pool.max)
    families.set("pool_waiting", pool.waiting)
    families.set("pool_exhausted", pool.exhausted)
    families.set("pool_requests", pool.requests)
    families.set("pool_requests_queued", pool.requests_queued)
    families.set("pool_requests_failed", pool.requests_failed)
    families.set("pool_wait_seconds", _seconds(pool.requests_wait_ms))
    families.set("pool_connects", pool.connections_opened)
    families.set("pool_connects_failed", pool.connections_failed)
    families.set("pool_connect_seconds", _seconds(pool.connections_open_ms))
    families.set("pool_connections_lost", pool.connections_lost)
    families.set("pool_connections_returned_broken", pool.returned_broken)


def _add_near_cache(families: _Families, redis: CacheHealth) -> None:
    near = redis.counters.near
    families.set("near_cache_up", redis.near.state == "on")
    families.set("near_cache_entries", near.entries)
    families.set("near_cache_bytes", near.bytes)
    families.set("near_cache_hits", near.hits)
    families.set("near_cache_invalidated", near.invalidated)
    families.set("near_cache_evicted", near.evicted)
    families.set("near_cache_refused", near.refused)
    families.set("near_cache_dropped", near.dropped)


def _add_redis(families: _Families, redis: CacheHealth) -> None:
    counters = redis.counters
    families.set("cache_hits", counters.hits)
    families.set("cache_misses", counters.misses)
    families.set("cache_fills", counters.fills)
    families.set("cache_fills_refused", counters.refused_fills)
    families.set("cache_invalidations_pending", redis.pending_invalidations)
    families.set("redis_up", redis.reachable)
    families.set("redis_latency_seconds", _seconds(redis.latency_ms))
    families.set("redis_memory_bytes", redis.used_memory)
    families.set("redis_breaker_open", redis.breaker != "closed")
    families.set("redis_breaker_opened", counters.opened)
    families.set("redis_failures", counters.failures)
    families.set("redis_refusals", counters.refusals)
    families.set("redis_skipped", counters.skipped)
    families.set("redis_effects_lost", counters.lost_effects)


def _add_sizes(families: _Families, pool: Pool) -> None:
    try:
        with probe(pool.settings) as connection:
            sizes = fetch_all(connection, _LIST_TABLE_SIZES, {})
            growth = fetch_one(connection, _GET_EVENT_LOG_GROWTH, {})
    except RootStreamError as error:
        _log.warning("table sizes could not be read: %s", error)
        families.set("scrape_sizes_read", 0)
        return
    families.set("scrape_sizes_read", 1)
    for size in sizes:
        families.set("table_bytes", size.table_bytes, size.table)
        families.set("table_index_bytes", size.index_bytes, size.table)
    if growth is not None:
        families.set("event_log_events", growth.estimated_events)
        families.set("event_log_position", growth.last_position)


def _add_subscriptions(families: _Families, pool: Pool) -> None:
    try:
        with probe(pool.settings) as connection:
            horizon = fetch_one(connection, _GET_HORIZON, {"known": 0})
            assert horizon is not None
            where = {"horizon": horizon.position, "last_position": horizon.last_position}
            lags = fetch_all(connection, _LIST_LAG, where)
    except RootStreamError as error:
        _log.warning("the lag of subscriptions could not be read: %s", error)
        return
    for lag in lags:
        labels = lag.name, str(lag.partition)
        families.set("subscription_lag_positions", lag.positions_behind, *labels)
        families.set("subscription_lag_seconds", lag.seconds_behind or 0.0, *labels)
        families.set("subscription_parked", lag.parked, *labels)


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
