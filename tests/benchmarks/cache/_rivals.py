"""Other caches, where they are installed: dogpile.cache and cashews. Neither is a dependency."""

from __future__ import annotations

import asyncio
import importlib
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
import redis.asyncio

from .._harness import Call

__all__ = ["PER_CALL", "blocking", "in_coroutines"]

PER_CALL = 100
"""Reads in one call of `in_coroutines`, so that the start of the event loop does not count."""


def blocking(redis_url: str, payload: bytes) -> dict[str, Call]:
    """A hit in dogpile.cache, in memory and in Redis; nothing where it is not installed."""
    try:
        dogpile: Any = importlib.import_module("dogpile.cache")
    except ImportError:
        return {}
    calls: dict[str, Call] = {}
    for name, backend, arguments in (
        ("dogpile.cache, memory", "dogpile.cache.memory", {}),
        ("dogpile.cache, Redis", "dogpile.cache.redis", {"url": redis_url}),
    ):
        region = dogpile.make_region().configure(backend, arguments=arguments)
        region.set("bench:dogpile", payload)
        calls[name] = _get_from(region, payload)
    return calls


def _get_from(region: Any, payload: bytes) -> Call:
    return lambda: region.get_or_create("bench:dogpile", lambda: payload)


@contextmanager
def in_coroutines(client: redis.Redis, payload: bytes) -> Iterator[dict[str, Call]]:
    """PER_CALL hits in cashews, in memory, in Redis, and with its client-side cache, beside redis-py's own
    asyncio client. Nothing where cashews is not installed: it is asynchronous only."""
    try:
        cashews: Any = importlib.import_module("cashews")
    except ImportError:
        yield {}
        return
    # It knows no unix sockets.
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    client.config_set("port", port)
    redis_url = f"redis://127.0.0.1:{port}/0"
    loop = asyncio.new_event_loop()
    bare: Any = redis.asyncio.Redis.from_url(redis_url)
    caches: dict[str, Any] = {}
    for name, url, options in (
        ("cashews, memory", "mem://", {}),
        ("cashews, Redis", redis_url, {}),
        ("cashews, client side", redis_url, {"client_side": True}),
    ):
        caches[name] = cashews.Cache()
        caches[name].setup(url, **options)

    async def prepare() -> None:
        await bare.set("bench:bare", payload)
        for cache in caches.values():
            await cache.init()
            await cache.set("bench:cashews", payload)
            assert await cache.get("bench:cashews") == payload

    async def repeat(client: Any, key: str) -> None:
        for _ in range(PER_CALL):
            await client.get(key)

    def calls_of(client: Any, key: str) -> Call:
        return lambda: loop.run_until_complete(repeat(client, key))

    async def end() -> None:
        await bare.aclose()
        for cache in caches.values():
            await cache.close()

    try:
        loop.run_until_complete(prepare())
        yield {
            "redis.asyncio GET": calls_of(bare, "bench:bare"),
            **{name: calls_of(cache, "bench:cashews") for name, cache in caches.items()},
        }
    finally:
        loop.run_until_complete(end())
        loop.close()
