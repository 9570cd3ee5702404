"""What the groups share: the servers and a store on them."""

from __future__ import annotations

from dataclasses import dataclass

import redis

from rootstream_store import Store
from rootstream_store.embedded import EmbeddedServers

from .._suite import Suite

__all__ = ["Bench"]


@dataclass(kw_only=True)
class Bench(Suite):
    """One run, on one pair of servers."""

    servers: EmbeddedServers
    store: Store
    bare: redis.Redis
    """redis-py with its own defaults, as a baseline."""
