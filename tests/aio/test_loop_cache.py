"""Cached answers on an event loop: a hit needs no thread, and whatever Redis does, the loop goes on."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest
import redis

from rootstream_store.async_store import AsyncStore, LoopStore
from rootstream_store.cache import LoopCache
from rootstream_store.event_loop import Home
from rootstream_store.repositories import sessions, users
from rootstream_store.settings import Settings

from ..cache.conftest import OwnValkey, own_valkey
from ..cache.groups import cluster_group, sentinel_group
from ..waiting import until

__all__ = ["own_valkey"]

KEYS = [f"stream:{number}:live" for number in range(30)]


def load() -> tuple[bytes | None, float]:
    return b"loaded", 60.0


@pytest.fixture(scope="module", params=["sentinel", "cluster"])
def group_url(request: pytest.FixtureRequest) -> Iterator[str]:
    with sentinel_group() if request.param == "sentinel" else cluster_group(replicas=False) as made:
        yield made.url


@pytest.fixture
def home() -> Iterator[Home]:
    home = Home(4, 4)
    yield home
    home.close()


def open_cache(url: str, **values: float) -> LoopCache:
    return LoopCache(Settings.create(database_url="postgresql:///none", redis_url=url, **values))


def test_a_hit_needs_no_thread(database_url: str, redis_url: str) -> None:
    release = threading.Event()

    async def main() -> None:
        settings = {"redis_pool_size": 1, "pool_size": 1, "redis_timeout": 20}
        async with AsyncStore.open(database_url, redis_url, **settings) as store:
            user = await users.create(
                store, username="ann", email="ann@example.org", password="correct horse"
            )
            session = await sessions.create(store, user.id)
            await store.sweep_invalidations()
            first = await sessions.validate(store, session.token)
            assert isinstance(store.sync, LoopStore)
            # All threads that there are, and more in line.
            busy = [store.sync.home.in_thread(release.wait, 60) for _ in range(4)]
            try:
                assert await asyncio.wait_for(sessions.validate(store, session.token), 30) == first
            finally:
                release.set()
                await asyncio.gather(*busy)

    asyncio.run(main())


def test_hits_and_misses_of_sentinels_and_of_a_cluster(home: Home, group_url: str) -> None:
    cache = open_cache(group_url, redis_timeout=20)

    async def main() -> None:
        missed = [await home.run(cache.fetch, key, load) for key in KEYS]
        assert missed == [(b"loaded", False)] * len(KEYS)
        found = await asyncio.gather(*(home.run(cache.fetch, key, load) for key in KEYS))
        assert found == [(b"loaded", True)] * len(KEYS)

    try:
        asyncio.run(main())
    finally:
        cache.close()


def test_a_frozen_redis_holds_up_one_call_and_no_loop(home: Home, own_valkey: OwnValkey) -> None:
    cache = open_cache(own_valkey.url, redis_timeout=2, redis_retry_after=30)
    longest = 0.0

    async def beat() -> None:
        nonlocal longest
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.01)
            longest = max(longest, time.monotonic() - before)

    async def main() -> None:
        for _ in range(2):
            await home.run(cache.fetch, "user:1", load)
        heart = asyncio.create_task(beat())
        own_valkey.freeze()
        try:
            assert await home.run(cache.fetch, "user:1", load) == (b"loaded", False)
            assert cache._breaker.state == "open"
            assert "2 s" in str(cache._breaker.last_error)
        finally:
            own_valkey.thaw()
            heart.cancel()
        assert longest < 1.5  # a wait for Redis on the loop would take 2 s

    try:
        asyncio.run(main())
    finally:
        cache.close()


def test_a_cancelled_read_leaves_no_answer_for_the_next(home: Home, own_valkey: OwnValkey) -> None:
    cache = open_cache(own_valkey.url, redis_timeout=20)

    async def main() -> None:
        values = {f"user:{number}": b"%d" % number for number in range(3)}
        for key, value in values.items():
            await home.run(cache.fetch, key, lambda value=value: (value, 60.0))
        own_valkey.freeze()
        try:
            cut = [asyncio.create_task(home.run(cache.fetch, key, load)) for key in values]
            await asyncio.sleep(0)
            for task in cut:
                task.cancel()
            assert all(
                isinstance(end, asyncio.CancelledError)
                for end in await asyncio.gather(*cut, return_exceptions=True)
            )
        finally:
            own_valkey.thaw()
        for key, value in reversed(values.items()):
            assert await home.run(cache.fetch, key, load) == (value, True)

    try:
        asyncio.run(main())
    finally:
        cache.close()


def test_a_connection_that_the_server_has_closed_is_no_failure(home: Home, own_valkey: OwnValkey) -> None:
    cache = open_cache(own_valkey.url, redis_timeout=20)

    async def main() -> None:
        for _ in range(2):
            await home.run(cache.fetch, "user:1", load)
        with redis.Redis.from_url(own_valkey.url) as admin:
            admin.client_kill_filter(skipme=True)
            until(lambda: len(admin.client_list()) == 1, "the connections to be closed")
        assert await home.run(cache.fetch, "user:1", load) == (b"loaded", True)
        assert cache.counters.failures == 0

    try:
        asyncio.run(main())
    finally:
        cache.close()
