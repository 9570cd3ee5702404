"""The cache on a primary that sentinels watch, and on a cluster."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from rootstream_store.cache import (
    UNREACHED,
    Ask,
    Cache,
    Delete,
    Gap,
    Invalidate,
    Message,
    Publish,
    Script,
    SetValue,
)
from rootstream_store.cache.client import connect
from rootstream_store.settings import Settings

from ..waiting import until
from .conftest import cached
from .groups import ClusterGroup, SentinelGroup, cluster_group, sentinel_group

Group = SentinelGroup | ClusterGroup
KEYS = [f"stream:{number}:live" for number in range(60)]

ADD = Script("return redis.call('INCRBY', KEYS[1], ARGV[1])")


@pytest.fixture(scope="module", params=["sentinel", "cluster"])
def group(request: pytest.FixtureRequest) -> Iterator[Group]:
    """One that no test here breaks."""
    with sentinel_group() if request.param == "sentinel" else cluster_group(replicas=False) as made:
        yield made


@pytest.fixture
def cache(group: Group) -> Iterator[Cache]:
    for server in group.servers if isinstance(group, ClusterGroup) else [group.primary]:
        server.admin.flushall()
    opened = open_cache(group.url)
    yield opened
    opened.close()


def open_cache(url: str, **values: Any) -> Cache:
    return Cache(
        Settings(database_url="postgresql:///none", redis_url=url, **{"redis_retry_after": 0.2, **values})
    )


def value(payload: bytes | None) -> Callable[[], tuple[bytes | None, float]]:
    return lambda: (payload, 60)


def never() -> tuple[bytes | None, float]:
    raise AssertionError("loaded although it was cached")


def test_values_are_cached_and_invalidated_wherever_they_are(cache: Cache) -> None:
    for key in KEYS:
        assert cache.get_or_load(key, value(key.encode())) == key.encode()
        assert cache.get_or_load(key, never) == key.encode()
    assert cached(cache, KEYS[0]) == KEYS[0].encode()
    cache.begin_write(KEYS)  # all slots in one call
    assert cache.get_or_load(KEYS[0], value(b"meanwhile")) == b"meanwhile"
    cache.end_write(KEYS)
    for key in KEYS:
        assert cache.get_or_load(key, value(b"new")) == b"new"
        assert cache.get_or_load(key, never) == b"new"
    counters = cache.counters
    assert (counters.failures, counters.refusals, counters.skipped) == (0, 0, 0)


def test_effects_reach_every_slot(cache: Cache) -> None:
    cache.get_or_load(KEYS[0], value(b"v"))
    cache.run([SetValue(key, number, 60.0) for number, key in enumerate(KEYS[1:], 1)])
    cache.run([Delete(KEYS[1]), Invalidate(KEYS[0]), Publish("news", "x")])
    assert [cache.redis.get(key) for key in KEYS[:3]] == [None, None, b"2"]
    assert cache.counters.lost_effects == 0


def test_a_script_runs_where_its_key_is(cache: Cache) -> None:
    for key in KEYS:
        for _ in range(2):
            cache.ask(Ask(ADD, [key], [2], int))
        assert cache.ask(Ask(ADD, [key, f"{{{key}}}:seen"], [2], int)) == 6


def test_a_script_over_several_slots_is_refused_and_told(group: Group, cache: Cache) -> None:
    if isinstance(group, ClusterGroup):
        assert cache.ask(Ask(ADD, KEYS[:10], [2], int)) is UNREACHED
        assert cache.counters.refusals == 1


def test_messages_arrive_from_any_node(cache: Cache, group: Group) -> None:
    with cache.subscribe("news", patterns=["stream:*:events"]) as messages:
        channels = [f"stream:{number}:events" for number in range(20)]
        cache.run([Publish(channel, "started") for channel in channels])
        received = [messages.get(2) for _ in channels]
        assert sorted(message.channel for message in received if isinstance(message, Message)) == sorted(
            channels
        )
        cache.redis.publish("news", "x")
        assert messages.get(2) == Message("news", b"x")


def test_a_subscription_comes_back_with_a_gap(cache: Cache, group: Group) -> None:
    with cache.subscribe("news") as messages:
        for server in group.servers:
            server.admin.client_kill_filter(_type="pubsub")
        assert isinstance(messages.get(5), Gap)
        cache.run([Publish("news", "x")])
        assert messages.get(2) == Message("news", b"x")


def test_health_asks_each_server(cache: Cache, group: Group) -> None:
    health = cache.health()
    assert health.reachable
    assert health.error is None
    assert health.server_name == "valkey"
    assert health.used_memory is not None
    assert (health.used_memory > 5_000_000) == isinstance(group, ClusterGroup)
    assert "w@rd" not in repr(health)
    assert "w%40rd" not in repr(health)


def test_the_plain_client_is_of_redis_py(cache: Cache, group: Group) -> None:
    assert isinstance(cache.redis, redis.RedisCluster if isinstance(group, ClusterGroup) else redis.Redis)
    client = cache.redis
    for key in KEYS:
        assert client.set(key, "v", ex=60)
    with client.pipeline(transaction=False) as pipe:
        for key in KEYS:
            pipe.incr(f"{key}:count")
        assert pipe.execute() == [1] * len(KEYS)
    with client.pipeline(transaction=True) as pipe:
        pipe.incr("{one}:a")
        pipe.incr("{one}:b")
        assert pipe.execute() == [1, 1]


def test_closing_leaves_no_thread_and_no_connection(group: Group) -> None:
    cache = open_cache(group.url, application_name="to be closed")
    for key in KEYS:
        cache.get_or_load(key, value(b"v"))
        cache.redis.get(key)
    if isinstance(group, ClusterGroup):
        cache._nodes.look_soon()  # type: ignore[union-attr]  # a cluster has them
    cache.close()
    names = {thread.name for thread in threading.enumerate()}
    assert "rootstream-cluster" not in names

    def connected() -> list[str]:
        return [
            client["name"]
            for server in group.servers
            for client in server.admin.client_list()
            if client["name"] == "to-be-closed"
        ]

    until(lambda: not connected(), "the connections to be closed")


@pytest.mark.parametrize(
    "url", ["redis+sentinel://127.0.0.1:1,127.0.0.1:2/live", "redis+cluster://127.0.0.1:1"]
)
def test_servers_that_are_not_there_cost_nothing(url: str) -> None:
    cache = open_cache(url)
    started = time.monotonic()
    assert cache.get_or_load("key", value(b"v")) == b"v"
    cache.begin_write(["key"])
    cache.end_write(["key"])
    cache.run([Publish("news", "x")])
    assert not cache.health().reachable
    assert time.monotonic() - started < 0.6
    with pytest.raises(redis.ConnectionError):
        cache.redis.get("key")
    assert cache.counters.failures > 0
    cache.close()


def test_a_service_that_the_sentinels_do_not_know_is_told(group: Group) -> None:
    if isinstance(group, SentinelGroup):
        client = connect(
            Settings(database_url="postgresql:///none", redis_url=group.url.replace("/live/0", "/other"))
        )
        with pytest.raises(redis.ConnectionError, match="no sentinel knows a primary of 'other'"):
            client.get("key")


def test_a_server_that_is_no_cluster_is_told(group: Group) -> None:
    if isinstance(group, SentinelGroup):
        cache = open_cache(f"redis+cluster://:pass%2Cw%40rd@127.0.0.1:{group.primary.port}")
        assert cache.get_or_load("key", value(b"v")) == b"v"
        health = cache.health()
        assert not health.reachable
        assert "no map of the cluster" in str(health.error)
        cache.close()
