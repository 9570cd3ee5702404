"""A store at work while the primary of its Redis is killed or frozen, behind sentinels and in a cluster."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator

import pytest
from redis.crc import key_slot

from rootstream_store import Store, users
from rootstream_store.cache import Cache, Gap, Message, Publish, keys
from rootstream_store.settings import Settings

from ..cache.groups import ClusterGroup, SentinelGroup, Server, cluster_group, sentinel_group
from ..waiting import until
from .loading import Load, records_of
from .test_redis_under_load import LONGEST, several_tries

Kill = Callable[[Server], None]


@pytest.fixture(autouse=True, scope="module")
def _cheap_passwords() -> Iterator[None]:
    users.configure_passwords(time_cost=1, memory_cost=8, parallelism=1)
    yield
    users.configure_passwords()


def at_rest(primary: Server, replica: Server) -> bool:
    """Whether the replica has every write. What it has not is lost, as documented: replication is
    asynchronous."""
    offset = primary.admin.info("replication")["master_repl_offset"]
    return bool(replica.admin.info("replication")["slave_repl_offset"] >= offset)


@pytest.mark.parametrize("stop", [Server.kill, Server.freeze])
def test_sentinels_name_another_primary(
    database_url: str, caplog: pytest.LogCaptureFixture, stop: Kill
) -> None:
    def scenario() -> None:
        with (
            sentinel_group() as group,
            Store.open(database_url, group.url, redis_retry_after=0.3, pool_size=6) as store,
        ):
            fail_over_sentinels(store, group, stop)

    several_tries(scenario)


def fail_over_sentinels(store: Store, group: SentinelGroup, stop: Kill) -> None:
    load = Load(store)
    primary, replica = group.primary, group.replica
    with load, store.subscribe("news") as news:
        until(lambda: load.hits > 50, "the cache to be of use")
        with load.no_writes():
            until(lambda: at_rest(primary, replica), "the replica to have everything")
            stop(primary)
        until(lambda: load.counters.opened > 0, "the loss to be noticed")
        until(lambda: group.primary is replica, "the sentinels to agree")
        hits = load.hits
        until(lambda: load.hits > hits + 50, "the new primary to be used")
        assert store.health().redis.reachable
        until(lambda: store.health().redis.pending_invalidations == 0, "the removals to be made up for")
        # The old one comes back, first as the primary that it thinks it is.
        if stop is Server.freeze:
            primary.thaw()
        else:
            primary.start()
        until(lambda: primary.admin.role()[0] == b"slave", "the old primary to follow the new one")
        calls = load.calls
        until(lambda: load.calls > calls + 200, "calls to be answered afterwards")
        assert isinstance(news.get(10), Gap)
        store.after_commit(Publish("news", "x"))
        assert news.get(2) == Message("news", b"x")
    load.check(LONGEST)
    until(lambda: store.health().status == "ok", "the health to be good again")


def test_two_of_three_sentinels_may_be_away(database_url: str) -> None:
    with (
        sentinel_group() as group,
        Store.open(database_url, group.url, redis_retry_after=0.2) as store,
    ):
        group.sentinels[0].kill()
        group.sentinels[1].freeze()  # accepts connections, and never answers
        load = Load(store)
        with load:
            until(lambda: load.hits > 20, "the third to be asked")
        started = time.monotonic()
        store.redis.connection_pool.disconnect()
        store.redis.ping()
        assert time.monotonic() - started < 0.1, "it is asked first by now"
        assert store.health().redis.reachable


@pytest.mark.parametrize("stop", [Server.kill, Server.freeze])
def test_a_node_of_a_cluster_is_replaced(
    database_url: str, caplog: pytest.LogCaptureFixture, stop: Kill
) -> None:
    caplog.set_level(logging.INFO, "rootstream_store.cache")

    def scenario() -> None:
        with (
            cluster_group(replicas=True) as group,
            Store.open(database_url, group.url, redis_retry_after=0.3, pool_size=6) as store,
        ):
            caplog.clear()
            fail_over_node(store, group, stop, caplog)

    several_tries(scenario)


def fail_over_node(store: Store, group: ClusterGroup, stop: Kill, caplog: pytest.LogCaptureFixture) -> None:
    load = Load(store)
    slot = key_slot(keys.viewers(load.streams[0]).encode())
    primary = group.owner(slot)
    replica = group.servers[group.servers.index(primary) + 3]
    with load:
        until(lambda: load.hits > 50, "the cache to be of use")
        with load.no_writes():
            until(lambda: at_rest(primary, replica), "the replica to have everything")
            stop(primary)
        until(lambda: load.counters.opened > 0, "the loss to be noticed")
        health = store.health()
        hits = load.hits
        until(lambda: load.hits > hits + 20, "the other nodes to go on")
        if replica.admin.role()[0] != b"master":
            assert not health.redis.reachable
            assert health.status == "degraded"
            assert str(primary.port) in str(health.redis.error)
        until(lambda: store.health().redis.reachable, "the replica to be used in its place")
        until(lambda: store.health().redis.pending_invalidations == 0, "the removals to be made up for")
        if stop is Server.freeze:
            primary.thaw()
        else:
            primary.start()
        until(lambda: primary.admin.role()[0] == b"slave", "the old primary to follow the new one")
        calls = load.calls
        until(lambda: load.calls > calls + 200, "calls to be answered afterwards")
    load.check(LONGEST)
    failed = records_of(caplog.records, "failed, answering from PostgreSQL")
    assert len(failed) == 1, failed
    assert str(primary.port) in failed[0]


def test_the_other_nodes_of_a_cluster_serve_while_one_is_away() -> None:
    names = [f"key:{number}" for number in range(30)]
    with cluster_group(replicas=False) as group:
        cache = Cache(Settings(database_url="postgresql:///none", redis_url=group.url, redis_retry_after=0.2))
        for server in group.servers:
            server.admin.config_set("cluster-require-full-coverage", "no")
        for name in names:
            cache.get_or_load(name, lambda: (b"v", 60))
        group.servers[0].kill()
        for _ in range(5):
            before = cache.counters.hits
            for name in names:
                cache.begin_write([name])
                cache.end_write([name])
                for _ in range(2):
                    assert cache.get_or_load(name, lambda: (b"v", 60)) == b"v"
            assert cache.counters.hits - before > len(names) // 3
        cache.close()


def test_a_cluster_without_replicas_goes_on_with_what_is_left(database_url: str) -> None:
    """And with the node again, when it is back empty."""
    with (
        cluster_group(replicas=False) as group,
        Store.open(database_url, group.url, redis_retry_after=0.2) as store,
    ):
        for server in group.servers:
            server.admin.config_set("cluster-require-full-coverage", "no")
        load = Load(store)
        victim = group.owner(key_slot(keys.viewers(load.streams[0]).encode()))
        with load:
            until(lambda: load.hits > 50, "the cache to be of use")
            victim.kill()
            until(lambda: load.counters.opened > 0, "the loss to be noticed")
            hits = load.hits
            until(lambda: load.hits > hits + 50, "the other nodes to be of use meanwhile", 40)
            victim.start()
            until(lambda: store.health().redis.reachable, "the node to be back")
            until(lambda: store.health().redis.pending_invalidations == 0, "the removals to be made up for")
            hits = load.hits
            until(lambda: load.hits > hits + 50, "the cache to be of use again", 40)
        load.check(LONGEST)
