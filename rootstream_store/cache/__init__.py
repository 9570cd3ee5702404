"""Redis behind the store: a lease cache, effects after commits, messages. Never the source of truth.

Whatever Redis does, reads are answered (by the load function, from PostgreSQL) and writes are not held up.
"""

from __future__ import annotations

from rootstream_store.cache import keys
from rootstream_store.cache._loop_cache import LoopCache
from rootstream_store.cache._report import CacheCounters, CacheHealth
from rootstream_store.cache._tracking import NearHealth
from rootstream_store.cache.breaker import UNREACHED, Unreached
from rootstream_store.cache.cache import Cache
from rootstream_store.cache.client import connect
from rootstream_store.cache.effects import (
    Delete,
    Effect,
    Expire,
    Invalidate,
    Publish,
    SetValue,
    Tell,
    Wake,
    run_effects,
)
from rootstream_store.cache.feed import Entry, Feed, Hole
from rootstream_store.cache.lease import Load
from rootstream_store.cache.messages import Announce, StateChange, WriteAsk
from rootstream_store.cache.near import MISSING, NEGATIVE, NearCache, NearCounters
from rootstream_store.cache.pubsub import Gap, Message, Subscription, check_timeout, subscribe
from rootstream_store.cache.wire import Ask, Script

__all__ = [
    "MISSING",
    "NEGATIVE",
    "UNREACHED",
    "Announce",
    "Ask",
    "Cache",
    "CacheCounters",
    "CacheHealth",
    "Delete",
    "Effect",
    "Entry",
    "Expire",
    "Feed",
    "Gap",
    "Hole",
    "Invalidate",
    "Load",
    "LoopCache",
    "Message",
    "NearCache",
    "NearCounters",
    "NearHealth",
    "Publish",
    "Script",
    "SetValue",
    "StateChange",
    "Subscription",
    "Tell",
    "Unreached",
    "Wake",
    "WriteAsk",
    "check_timeout",
    "connect",
    "keys",
    "run_effects",
    "subscribe",
]
