"""A slot that is given to another node of a cluster, before, during and after."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis.crc import key_slot

from rootstream_store.cache import Ask, Publish, SetValue

from .groups import ClusterGroup, cluster_group
from .test_groups import ADD, KEYS, never, open_cache, value


@pytest.fixture(scope="module")
def cluster() -> Iterator[ClusterGroup]:
    with cluster_group(replicas=False) as made:
        yield made


def test_a_moved_slot_is_found_with_what_it_holds(cluster: ClusterGroup) -> None:
    cache = open_cache(cluster.url)
    try:
        for key in KEYS:
            cache.get_or_load(key, value(b"before"))
            cache.redis.get(key)
        slot = key_slot(KEYS[0].encode())
        source = cluster.owner(slot)
        target = next(server for server in cluster.servers if server is not source)
        cluster.move(slot, target)
        assert cache.get_or_load(KEYS[0], never) == b"before"
        assert cache.redis.get(KEYS[0]) is not None
        cache.begin_write(KEYS)
        cache.end_write(KEYS)
        for key in KEYS:
            assert cache.get_or_load(key, value(b"after")) == b"after"
        assert cache.counters.failures == cache.counters.refusals == 0
        # Several commands at once: what is redirected among them is done once.
        cluster.move(slot, source)
        cache.run([SetValue(f"{{{KEYS[0]}}}:{n}", n, None) for n in range(3)])
        client = cache.redis
        assert client.mget([f"{{{KEYS[0]}}}:{n}" for n in range(3)]) == [b"0", b"1", b"2"]
    finally:
        cache.close()


def test_a_slot_on_its_way_is_asked_for_at_both_ends(cluster: ClusterGroup) -> None:
    cache = open_cache(cluster.url)
    try:
        key = "on-its-way"
        slot = key_slot(key.encode())
        cache.ask(Ask(ADD, [key], [1], int))
        source = cluster.owner(slot)
        target = next(server for server in cluster.servers if server is not source)
        names = [server.admin.execute_command("CLUSTER MYID") for server in (source, target)]
        target.admin.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", names[0])
        source.admin.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", names[1])
        assert cache.ask(Ask(ADD, [key], [1], int)) == 2  # still at the source
        source.admin.execute_command("MIGRATE", "127.0.0.1", target.port, key, 0, 5000)
        assert cache.ask(Ask(ADD, [key], [1], int)) == 3  # by ASK
        cache.run([SetValue(f"{{{key}}}:new", 1, None), Publish("news", "x")])
        assert cache.counters.lost_effects == 0
        for server in (target, source):
            server.admin.execute_command("CLUSTER SETSLOT", slot, "NODE", names[1])
        assert cache.ask(Ask(ADD, [key], [1], int)) == 4
        assert cache.counters.failures == cache.counters.refusals == 0
    finally:
        cache.close()
