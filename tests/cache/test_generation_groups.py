"""A replica that is promoted without the last writes, and a node of a cluster that comes back from a dump."""

from __future__ import annotations

from collections.abc import Callable

from redis.crc import key_slot

from rootstream_store.cache import Cache
from rootstream_store.settings import Settings

from ..waiting import until
from .groups import cluster_group, sentinel_group

KEYS = [f"user:{number}" for number in range(30)]


def opened(url: str) -> Cache:
    return Cache(Settings(database_url="postgresql:///none", redis_url=url, redis_retry_after=0.1))


def value(payload: bytes) -> Callable[[], tuple[bytes | None, float]]:
    return lambda: (payload, 60)


def write(cache: Cache, key: str) -> None:
    cache.begin_write([key])
    cache.end_write([key])


def hits_again(caches: list[Cache], payload: bytes) -> None:
    """All of them answer with it, from Redis, and none with anything older on the way."""

    def do() -> bool:
        before = [cache.counters.hits for cache in caches]
        for cache in caches:
            for key in KEYS:
                assert cache.get_or_load(key, value(payload)) == payload
        return all(
            cache.counters.hits - count == len(KEYS) for cache, count in zip(caches, before, strict=True)
        )

    until(do, "all keys to be hits", 30)


def test_a_failover_that_loses_the_last_writes() -> None:
    with sentinel_group() as group:
        caches = [opened(group.url) for _ in range(2)]
        for cache in caches:
            for key in KEYS:
                assert cache.get_or_load(key, value(b"old")) == b"old"
        until(lambda: group.replica.admin.dbsize() == len(KEYS), "the replica to have them")
        old, new = group.primary, group.replica
        # It loses the link, and does not get it back.
        new.admin.config_set("primaryauth", "wrong")
        old.admin.client_kill_filter(_type="replica")
        until(lambda: not group.linked(), "the replica to be alone")
        for key in KEYS:
            write(caches[0], key)
        old.kill()
        until(lambda: group.primary is new and new.admin.role()[0] == b"master", "a failover", 60)
        assert new.admin.dbsize() == len(KEYS), "what was removed is there again"
        hits_again(caches, b"new")
        for cache in caches:
            cache.close()


def test_a_node_of_a_cluster_that_comes_back_from_a_dump() -> None:
    with cluster_group(replicas=False) as group:
        caches = [opened(group.url) for _ in range(2)]
        for cache in caches:
            for key in KEYS:
                assert cache.get_or_load(key, value(b"old")) == b"old"
        assert caches[1].counters.misses == 0, "all servers make the same stamp for every process"
        server = group.owner(key_slot(KEYS[0].encode()))
        server.admin.save()
        for key in KEYS:
            write(caches[0], key)
        server.kill()
        server.start()
        assert server.admin.dbsize() > 0, "what was removed is there again"
        hits_again(caches, b"new")
        for cache in caches:
            cache.close()
