"""Asking Redis how it is: one server, or each primary of a cluster."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec
import redis

from rootstream_store.cache._cluster import Nodes
from rootstream_store.cache._errors import describe_error
from rootstream_store.cache._limits import within
from rootstream_store.cache.client import nodes_of

__all__ = ["Probe", "probe"]


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """What was answered just now."""

    latency_ms: float | None = None
    """Time of one PING, the longest of a cluster's. None: not reachable."""
    info: dict[str, Any] = {}
    """What INFO says; `used_memory` is the sum over a cluster's primaries."""
    error: str | None = None
    """Why it is not reachable, or not all of it."""


def probe(client: redis.Redis, timeout: float, url: str | None) -> Probe:
    """Asks, within 2.2 times `timeout` (seconds) in all. Never raises because of Redis."""
    nodes = nodes_of(client)
    try:
        with within(2.2 * timeout):
            return _one(client) if nodes is None else _all(nodes)
    except redis.RedisError as failure:
        return Probe(error=describe_error(failure, url))


def _one(client: redis.Redis) -> Probe:
    command: Callable[..., Any] = client.execute_command
    started = time.perf_counter()
    command("PING")
    latency = (time.perf_counter() - started) * 1000
    return Probe(latency_ms=latency, info=command("INFO"))


def _all(nodes: Nodes) -> Probe:
    latency, memory, info = 0.0, 0, {}
    for node in nodes.primaries():
        try:
            answer = _one(node.client)
        except redis.RedisError as failure:
            nodes.look_soon()
            return Probe(error=f"{node.address[0]}:{node.address[1]}: {describe_error(failure)}")
        latency = max(latency, answer.latency_ms or 0.0)
        info = answer.info
        memory += info.get("used_memory", 0)
    uncovered = nodes.uncovered()
    if uncovered:
        nodes.look_soon()
        return Probe(error=f"no node of the cluster serves {uncovered} of the slots")
    return Probe(latency_ms=latency, info={**info, "used_memory": memory})
