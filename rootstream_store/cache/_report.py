"""What a cache tells of itself."""

from __future__ import annotations

import msgspec

from rootstream_store.cache._tracking import NearHealth
from rootstream_store.cache.breaker import State
from rootstream_store.cache.near import NearCounters

__all__ = ["CacheCounters", "CacheHealth"]


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
    """Attempts that Redis answered with an error (out of memory, no permission)."""
    skipped: int = 0
    """Attempts not made since the breaker was open."""
    opened: int = 0
    """Times the breaker opened."""
    lost_effects: int = 0
    """Messages and plain values that did not reach Redis. Invalidations are not among them: those are
    repeated."""
    near: NearCounters = NearCounters()
    """Those of the near-cache. Its hits are not among `hits`."""


class CacheHealth(msgspec.Struct, frozen=True, kw_only=True):
    """How Redis is doing, asked just now."""

    enabled: bool
    """False: the store was opened without Redis, and the rest says nothing."""
    reachable: bool
    latency_ms: float | None = None
    """Time of one PING, the longest of a cluster's primaries. None: not reachable, or not all of them."""
    breaker: State = "closed"
    refuses: bool = False
    """Whether it refused a command of this process in the last ten seconds, since it is full, say."""
    slow: bool = False
    """Whether the PING took longer than calls should wait for an answer."""
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
    near: NearHealth = NearHealth(state="off")
    error: str | None = None
    """Why it is not reachable now, else the latest failure; without secrets. None: never failed."""
