"""Everything that a store does on Redis, behind one object."""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any, Literal, TypeVar

import redis
from msgspec.structs import asdict

from rootstream_store.cache import keys
from rootstream_store.cache._cluster_wire import ClusterBreaker, ClusterWire
from rootstream_store.cache._health import probe
from rootstream_store.cache._report import CacheCounters, CacheHealth
from rootstream_store.cache._runner import Runner
from rootstream_store.cache._tracking import NearHealth, Tracking, track
from rootstream_store.cache.breaker import UNREACHED, Breaker, Unreached
from rootstream_store.cache.client import close_idle, connect, nodes_of, pool_of, safe_url
from rootstream_store.cache.effects import (
    CHANGES,
    Effect,
    Wake,
)
from rootstream_store.cache.feed import Feed
from rootstream_store.cache.lease import LeaseCache, Load, Missed
from rootstream_store.cache.messages import Limits, WriteAsk
from rootstream_store.cache.near import NearCache, NearCounters
from rootstream_store.cache.pubsub import Subscription, subscribe
from rootstream_store.cache.wire import Ask, Command, Wire
from rootstream_store.errors import SettingsError, StoreClosed
from rootstream_store.settings import Settings

__all__ = ["Cache"]

T = TypeVar("T")

_AT_ONCE = 200
"""Scripts in one round trip: the server does them in some milliseconds, a fraction of redis_timeout."""
_JUST_NOW = 0.1
"""Seconds."""


class Cache:
    """Everything the store does on Redis. Thread-safe.

    Without `redis_url` in the settings: the same calls, answered without Redis. Connects on first use. Raises
    SettingsError for a `redis_url` that cannot work.
    """

    def __init__(self, settings: Settings) -> None:
        self._closed = False
        self._subscribing = threading.Lock()
        self._subscriptions: weakref.WeakSet[Subscription] = weakref.WeakSet()
        self._client: redis.Redis | None = None
        self._tracking: Tracking | None = None
        if settings.redis_url is None:
            return
        self._url = settings.redis_url
        self._retry_after = settings.redis_retry_after
        self._timeout = settings.redis_timeout
        self._client = connect(settings)
        self._nodes = nodes_of(self._client)
        if self._nodes is None:
            self._breaker = Breaker(
                settings.redis_retry_after,
                settings.redis_url,
                limit=settings.redis_timeout,
                on_read_only=self._forget_connections,
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
        connections = self._nodes or pool_of(self._client)
        connections.opened = self._lease.generation.greet
        self._runner = Runner(
            self._wire,
            self._breaker,
            self._lease,
            limits=Limits(settings.live_kept_messages, settings.live_kept_seconds),
            retry_after=settings.redis_retry_after,
            after_call=self._after_call,
        )
        self._tracking = track(self._client, settings)
        if self._tracking is not None:
            self._lease.generation.replaced = self._tracking.renew

    @property
    def enabled(self) -> bool:
        """Whether there is a Redis at all."""
        return self._client is not None

    @property
    def near(self) -> NearCache | None:
        """What `fetch` gave, kept in this process. None: off."""
        return self._tracking.near if self._tracking is not None else None

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
        return self.fetch(key, load)[0]

    def fetch(self, key: str, load: Load) -> tuple[bytes | None, bool]:
        """What `get_or_load` gives, and whether the near-cache may keep it."""
        if self._client is None:
            return load()[0], False
        try:
            return self._lease.fetch(key, load)
        finally:
            self._after_call()

    def look(self, key: str) -> tuple[bytes | None, bool] | Missed:
        """What `fetch` gives where there is a value, else what `load` goes on from. There is a Redis."""
        try:
            return self._lease.look(key)
        finally:
            self._after_call()

    def load(self, missed: Missed, load: Load) -> bytes | None:
        """What `get_or_load` gives, after a look that gave nothing."""
        try:
            return self._lease.load(missed, load)
        finally:
            self._after_call()

    def begin_write(self, cached: Collection[str]) -> None:
        """Say, just before a commit, which cached keys it changes. Never fails because of Redis."""
        if self._client is not None:
            self._lease.begin_write(cached)
            self._forget(cached)
            self._after_call()

    def end_write(self, cached: Collection[str]) -> None:
        """Remove these keys after the commit, the rollback or an unknown outcome. Never fails because of
        Redis."""
        if self._client is not None:
            try:
                self._lease.end_write(cached)
            finally:
                # Only now is nothing old to be had from Redis that could be kept here again.
                self._forget(cached)
            self._after_call()

    def drop(self, cached: Iterable[str]) -> list[str]:
        """Remove keys that somebody else's committed write made untrue. Returns those that Redis did not
        take; all, where there is none. Raises InvalidInput."""
        keys = list(cached)
        if self._client is None:
            return keys
        try:
            return self._lease.drop(keys)
        finally:
            self._forget(keys)
            self._after_call()

    @property
    def withholds_keys(self) -> bool:
        """Whether a key that `drop` could not remove is no hit from then on, while others are."""
        return self._client is not None and self._lease.withholds_keys

    def recheck(self) -> None:
        """Ask Redis whether it is still the server that it was; what another one brought back is no hit."""
        if self._client is not None:
            self._lease.generation.ask()
            self._after_call()

    def _forget(self, keys: Iterable[str]) -> None:
        if self.near is not None:
            self.near.forget(keys)

    def run(self, effects: Sequence[Effect]) -> None:
        """Run effects in one round trip. What fails is counted and logged; invalidations are repeated until
        done."""
        if self._client is not None and effects:
            self._runner.run(effects)
            self._forget(effect.key for effect in effects if isinstance(effect, CHANGES))

    def wake(self, wake: Wake) -> None:
        """Have subscribers woken soon. Costs the caller next to nothing, whatever Redis does."""
        if self._client is not None:
            self._runner.wake(wake)

    def ask(self, ask: Ask[T]) -> T | Literal[Unreached.UNREACHED]:
        """What the script answers, or UNREACHED where there is no Redis, or it failed, refused or was not
        tried. It is sent once: after a lost answer nobody knows whether it ran."""
        if self._client is None:
            return UNREACHED
        if isinstance(ask, WriteAsk):
            ask = ask.within(self._runner.limits)
        generation = self._lease.generation
        arguments, stamp = ask.arguments, generation.stamp
        try:
            if ask.is_stamped:
                if stamp is None and (stamp := generation.ask()) is None:
                    return UNREACHED
                arguments = (*arguments, stamp)
            # Not where this very call has waited in vain just now: it may be one of a longer one.
            insist = ask.insists and self._breaker.open_for > _JUST_NOW
            reply = self._breaker.attempt(
                lambda: self._wire.script(ask.script, ask.keys, arguments), insist=insist
            )
        finally:
            self._after_call()
        # It may have been sent on a connection that was opened for it, to another server than before.
        if reply is UNREACHED or (ask.is_stamped and generation.stamp != stamp):
            return UNREACHED
        return ask.read(reply)

    def read(self, commands: Sequence[Command]) -> list[Any] | Literal[Unreached.UNREACHED]:
        """The replies of commands that only read, in one round trip; UNREACHED where there is no Redis, or it
        failed, was not tried or refused one of them."""
        if self._client is None:
            return UNREACHED
        try:
            replies = self._breaker.attempt(lambda: self._wire.commands(commands))
        finally:
            self._after_call()
        if replies is not UNREACHED and (
            errors := [reply for reply in replies if isinstance(reply, redis.RedisError)]
        ):
            self._breaker.note_refusal(errors[0])
            return UNREACHED
        return replies

    def feed(self, since: str | datetime | None = None) -> Feed:
        """The messages of the capped stream from `since` on. See Feed. Closed with the store."""
        return Feed(self.read, self.subscribe(keys.MESSAGES), since)

    def ask_all(self, asks: Sequence[Ask[T]]) -> list[T | Literal[Unreached.UNREACHED]]:
        """What each script answers, many in one round trip, as `ask` does for one."""
        answers: list[T | Literal[Unreached.UNREACHED]] = []
        if self._client is None:
            return [UNREACHED] * len(asks)
        generation = self._lease.generation
        try:
            for start in range(0, len(asks), _AT_ONCE):
                some = asks[start : start + _AT_ONCE]
                stamp = generation.stamp
                if stamp is None and any(ask.is_stamped for ask in some):
                    stamp = generation.ask()
                calls = [
                    (
                        ask.script,
                        ask.keys,
                        (*ask.arguments, stamp or b"") if ask.is_stamped else ask.arguments,
                    )
                    for ask in some
                ]
                replies = self._breaker.attempt(functools.partial(self._wire.scripts, calls))
                if replies is UNREACHED:
                    # The rest would wait for nothing as long.
                    return answers + [UNREACHED] * (len(asks) - start)
                is_same = stamp is not None and generation.stamp == stamp
                for ask, reply in zip(some, replies, strict=True):
                    if isinstance(reply, redis.RedisError):
                        self._breaker.note_refusal(reply)
                        answers.append(UNREACHED)
                    elif ask.is_stamped and not is_same:
                        answers.append(UNREACHED)
                    else:
                        answers.append(ask.read(reply))
        finally:
            self._after_call()
        return answers

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
        with self._subscribing:
            self._subscriptions.add(subscription)
        if self._closed:
            subscription.close()
            raise StoreClosed("the store is closed")
        return subscription

    @property
    def uses(self) -> int:
        """How often a cached answer was asked for."""
        counters = self.counters
        return counters.hits + counters.misses + counters.near.hits

    @property
    def counters(self) -> CacheCounters:
        """What was counted so far."""
        if self._client is None:
            return CacheCounters()
        return CacheCounters(
            **asdict(self._lease.counters),
            **asdict(self._breaker.counters),
            lost_effects=self._runner.lost,
            near=self.near.counters if self.near is not None else NearCounters(),
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
            refuses=self._breaker.refuses,
            slow=(found.latency_ms or 0.0) > 750 * self._timeout,
            counters=self.counters,
            pending_invalidations=self._lease.pending,
            used_memory=info.get("used_memory"),
            server_name=info.get("server_name", "redis" if "redis_version" in info else None),
            server_version=info.get("valkey_version", info.get("redis_version")),
            url=safe_url(self._url),
            near=self._tracking.health if self._tracking is not None else NearHealth(state="off"),
            error=found.error or self._breaker.last_error,
        )

    def close(self) -> None:
        """End the subscriptions, try pending invalidations once more, close the connections. May be repeated.

        Calls that other threads are in go on to their end. A commit that ends later still removes its keys.
        """
        self._closed = True
        if self._client is None:
            return
        # Not while one is added, which would end the loop with an error. Later ones are closed as they come.
        with self._subscribing:
            subscriptions = list(self._subscriptions)
        # All first, then each: a reader that a frozen server does not wake looks up by itself, in its time.
        for subscription in subscriptions:
            subscription.end()
        for subscription in subscriptions:
            subscription.close()
        if self._tracking is not None:
            self._tracking.close()
        self._runner.close()
        self._lease.close()
        if self._nodes is not None:
            self._nodes.close()
        self._after_call()

    def _forget_connections(self) -> None:
        if self._client is not None:
            close_idle(self._client)

    def _after_call(self) -> None:
        # A call that was under way while the cache was closed gives its connection back to a closed pool.
        if self._closed and self._client is not None:
            close_idle(self._client)
