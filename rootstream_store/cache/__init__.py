"""Redis behind the store: a lease cache, effects after commits, messages. Never the source of truth.

Whatever Redis does, reads are answered (by the load function, from PostgreSQL) and writes are not held up.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable, Sequence
from typing import Literal, TypeVar

import msgspec
import redis

from rootstream_store.cache import keys
from rootstream_store.cache._cluster_wire import ClusterBreaker, ClusterWire
from rootstream_store.cache._health import probe
from rootstream_store.cache._wakes import Wakes
from rootstream_store.cache.breaker import UNREACHED, Breaker, BreakerCounters, State, Unreached
from rootstream_store.cache.client import close_idle, connect, nodes_of, safe_url
from rootstream_store.cache.effects import Delete, Effect, Invalidate, Publish, SetValue, Wake, run_effects
from rootstream_store.cache.lease import LeaseCache, LeaseCounters, Load
from rootstream_store.cache.pubsub import Gap, Message, Subscription, subscribe
from rootstream_store.cache.wire import Ask, Script, Wire
from rootstream_store.errors import SettingsError, StoreClosed
from rootstream_store.settings import Settings

__all__ = [
    "UNREACHED",
    "Ask",
    "Cache",
    "CacheCounters",
    "CacheHealth",
    "Delete",
    "Effect",
    "Gap",
    "Invalidate",
    "Load",
    "Message",
    "Publish",
    "Script",
    "SetValue",
    "Subscription",
    "Unreached",
    "Wake",
    "connect",
    "keys",
    "run_effects",
    "subscribe",
]


T = TypeVar("T")


class CacheCounters(msgspec.Struct, frozen=True, kw_only=True):
    """What was counted since the cache was opened, in this process."""

    hits: int = 0
    """Answers from Redis."""
    misses: int = 0
    """Answers from the load function, for whatever reason."""
    fills: int = 0
    """Loaded values that Redis took."""
    refused_fills: int = 0
    """Loaded values that Redis did not take, since the key was written meanwhile: each would have been
    stale."""
    failures: int = 0
    """Attempts that got no answer: no connection, a lost one, a timeout."""
    refusals: int = 0
    """Attempts that Redis answered with an error (out of memory, no permission, read-only)."""
    skipped: int = 0
    """Attempts not made since the breaker was open."""
    opened: int = 0
    """Times the breaker opened."""
    lost_effects: int = 0
    """Messages and plain values that did not reach Redis. Invalidations are not among them: those are
    repeated."""


class CacheHealth(msgspec.Struct, frozen=True, kw_only=True):
    """How Redis is doing, asked just now."""

    enabled: bool
    """False: the store was opened without Redis, and the rest says nothing."""
    reachable: bool
    latency_ms: float | None = None
    """Time of one PING, the longest of a cluster's primaries. None: not reachable, or not all of them."""
    breaker: State = "closed"
    counters: CacheCounters
    pending_invalidations: int = 0
    """Keys that this process removes as soon as Redis is back."""
    used_memory: int | None = None
    """Bytes that the server has allocated, of a cluster all primaries together. None: not known."""
    server_name: str | None = None
    """redis, valkey or what else the server calls itself."""
    server_version: str | None = None
    url: str | None = None
    """Without the password."""
    error: str | None = None
    """Why it is not reachable now, else the latest failure; without secrets. None: never failed."""


class Cache:
    """Everything the store does on Redis. Thread-safe.

    Without `redis_url` in the settings: the same calls, answered without Redis. Connects on first use. Raises
    SettingsError for a `redis_url` that cannot work.
    """

    def __init__(self, settings: Settings) -> None:
        self._closed = False
        self._lost_effects = 0
        self._count_lock = threading.Lock()
        self._subscriptions: weakref.WeakSet[Subscription] = weakref.WeakSet()
        self._client: redis.Redis | None = None
        if settings.redis_url is None:
            return
        self._url = settings.redis_url
        self._retry_after = settings.redis_retry_after
        self._timeout = settings.redis_timeout
        self._client = connect(settings)
        self._nodes = nodes_of(self._client)
        if self._nodes is None:
            self._breaker = Breaker(
                settings.redis_retry_after, settings.redis_url, limit=settings.redis_timeout
            )
            self._wire = Wire(self._client)
        else:
            self._breaker = ClusterBreaker(
                settings.redis_retry_after, settings.redis_url, self._nodes, limit=settings.redis_timeout
            )
            self._wire = ClusterWire(self._nodes)
        self._lease = LeaseCache(
            self._wire,
            self._breaker,
            timeout=settings.redis_timeout,
            retry_after=settings.redis_retry_after,
        )
        self._wakes = Wakes(self._run_now)

    @property
    def enabled(self) -> bool:
        """Whether there is a Redis at all."""
        return self._client is not None

    @property
    def redis(self) -> redis.Redis:
        """The plain redis-py client, without the breaker; it raises redis-py's errors. A redis.RedisCluster,
        which has the same commands, where `redis_url` names a cluster.

        Raises SettingsError when no `redis_url` was given, StoreClosed after close().
        """
        if self._client is None:
            raise SettingsError("redis_url is missing: this store was opened without Redis")
        if self._closed:
            raise StoreClosed("the store is closed")
        return self._client

    def get_or_load(self, key: str, load: Load) -> bytes | None:
        """The cached value, else what `load` gives. See LeaseCache.get_or_load.

        Not for use inside a transaction that has written: `load` would see what others must not see yet.
        """
        if self._client is None:
            return load()[0]
        try:
            return self._lease.get_or_load(key, load)
        finally:
            self._after_call()

    def begin_write(self, cached: Iterable[str]) -> None:
        """Say, just before a commit, which cached keys it changes. Never fails because of Redis."""
        if self._client is not None:
            self._lease.begin_write(cached)
            self._after_call()

    def end_write(self, cached: Iterable[str]) -> None:
        """Remove these keys after the commit, the rollback or an unknown outcome. Never fails because of
        Redis."""
        if self._client is not None:
            self._lease.end_write(cached)
            self._after_call()

    def run(self, effects: Sequence[Effect]) -> None:
        """Run effects in one round trip. What fails is counted and logged; invalidations are repeated until
        done."""
        if self._client is None or not effects:
            return
        now: list[Effect] = []
        for effect in effects:
            if type(effect) is Wake:
                self._wakes.add(effect)
            else:
                now.append(effect)
        if now:
            self._run_now(now)

    def wake(self, wake: Wake) -> None:
        """Have subscribers woken soon. Costs the caller next to nothing, whatever Redis does."""
        if self._client is not None:
            self._wakes.add(wake)

    def _run_now(self, effects: Sequence[Effect]) -> None:
        failed = run_effects(self._wire, self._breaker, effects)
        if failed:
            invalid = [effect.key for effect in failed if isinstance(effect, Invalidate)]
            self._lease.remember(invalid)
            with self._count_lock:
                self._lost_effects += len(failed) - len(invalid)
        self._after_call()

    def ask(self, ask: Ask[T]) -> T | Literal[Unreached.UNREACHED]:
        """What the script answers, or UNREACHED where there is no Redis, or it failed, refused or was not
        tried. It is sent once: after a lost answer nobody knows whether it ran."""
        if self._client is None:
            return UNREACHED
        try:
            reply = self._breaker.attempt(lambda: self._wire.script(ask.script, ask.keys, ask.arguments))
        finally:
            self._after_call()
        return reply if reply is UNREACHED else ask.read(reply)

    def subscribe(
        self, *channels: str, patterns: Iterable[str] = (), timeout: float | None = None
    ) -> Subscription:
        """Subscribe to channels and glob patterns of channels. See pubsub.subscribe. Closed with the
        store."""
        subscription = subscribe(
            self.redis,
            *channels,
            patterns=patterns,
            timeout=timeout,
            retry_after=self._retry_after,
            url=self._url,
        )
        self._subscriptions.add(subscription)
        if self._closed:
            subscription.close()
            raise StoreClosed("the store is closed")
        return subscription

    @property
    def counters(self) -> CacheCounters:
        """What was counted so far."""
        if self._client is None:
            return CacheCounters()
        lease: LeaseCounters = self._lease.counters
        breaker: BreakerCounters = self._breaker.counters
        return CacheCounters(
            hits=lease.hits,
            misses=lease.misses,
            fills=lease.fills,
            refused_fills=lease.refused_fills,
            failures=breaker.failures,
            refusals=breaker.refusals,
            skipped=breaker.skipped,
            opened=breaker.opened,
            lost_effects=self._lost_effects,
        )

    def health(self) -> CacheHealth:
        """Ask the server now, whatever the breaker says. Never raises because of Redis."""
        if self._client is None:
            return CacheHealth(enabled=False, reachable=False, counters=self.counters)
        found = probe(self._client, self._timeout, self._url)
        info = found.info
        self._after_call()
        return CacheHealth(
            enabled=True,
            reachable=found.latency_ms is not None,
            latency_ms=found.latency_ms,
            breaker=self._breaker.state,
            counters=self.counters,
            pending_invalidations=self._lease.pending,
            used_memory=info.get("used_memory"),
            server_name=info.get("server_name", "redis" if "redis_version" in info else None),
            server_version=info.get("valkey_version", info.get("redis_version")),
            url=safe_url(self._url),
            error=found.error or self._breaker.last_error,
        )

    def close(self) -> None:
        """End the subscriptions, try pending invalidations once more, close the connections. May be repeated.

        Calls that other threads are in go on to their end. A commit that ends later still removes its keys.
        """
        self._closed = True
        if self._client is None:
            return
        for subscription in list(self._subscriptions):
            subscription.close()
        self._wakes.close()
        self._lease.close()
        if self._nodes is not None:
            self._nodes.close()
        self._after_call()

    def _after_call(self) -> None:
        # A call that was under way while the cache was closed gives its connection back to a closed pool.
        if self._closed and self._client is not None:
            close_idle(self._client)
