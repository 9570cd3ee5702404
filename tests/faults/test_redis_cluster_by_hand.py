"""redis-py's cluster client as `store.redis` gives it: no call waits for long, nothing is sent twice."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.retry import Retry

from rootstream_store.cache import connect
from rootstream_store.settings import Settings

from ..cache.groups import ClusterGroup, Server, cluster_group
from ..waiting import until
from .test_redis_under_load import LONGEST, several_tries


@pytest.fixture(scope="module")
def group() -> Iterator[ClusterGroup]:
    with cluster_group(replicas=False) as made:
        yield made


@pytest.fixture
def client(group: ClusterGroup) -> Iterator[Any]:
    made: Any = connect(Settings(database_url="postgresql:///none", redis_url=group.url))
    yield made
    made.close()


def pipelined(client: Any, key: str) -> None:
    with client.pipeline(transaction=False) as pipe:
        pipe.incr(key)
        pipe.execute()


def in_transaction(client: Any, key: str) -> None:
    with client.pipeline(transaction=True) as pipe:
        pipe.incr(key)
        pipe.execute()


def answers(server: Server) -> bool:
    """Whether it does so at once, on a connection of its own."""
    with redis.Redis(port=server.port, socket_timeout=0.05, retry=Retry(NoBackoff(), 0)) as probe:
        try:
            return bool(probe.ping())
        except redis.RedisError:
            return False


WAYS: dict[str, Callable[[Any, str], object]] = {
    "a command": lambda client, key: client.incr(key),
    "a pipeline": pipelined,
    "a transaction": in_transaction,
}


@pytest.mark.parametrize("way", WAYS)
def test_a_lost_answer_is_an_error_soon_and_not_sent_again(
    group: ClusterGroup, client: Any, way: str
) -> None:
    """redis-py's own defaults repeat it ten times."""
    key = f"count:{way}"
    slot = key_slot(key.encode())
    owner = group.owner(slot)

    def scenario() -> None:
        client.delete(key)
        WAYS[way](client, key)
        # It answers just too late for the first attempt, and in time for a second one.
        sleeper = threading.Thread(target=owner.admin.execute_command, args=("DEBUG", "SLEEP", 0.4))
        sleeper.start()
        until(lambda: not answers(owner), "the server to sleep")
        started = time.monotonic()
        with contextlib.suppress(redis.RedisError):
            WAYS[way](client, key)
        took = time.monotonic() - started
        sleeper.join(10)
        assert int(owner.admin.get(key)) <= 2
        assert took < LONGEST

    several_tries(scenario)


def test_it_goes_on_when_the_node_is_back(group: ClusterGroup, client: Any) -> None:
    for _ in range(2):
        victim = group.servers[1]
        victim.freeze()
        for number in range(12):
            started = time.monotonic()
            try:
                client.set(f"key:{number}", "v")
            except redis.RedisError:
                assert time.monotonic() - started < 2 * LONGEST
        victim.thaw()
        deadline = time.monotonic() + 20
        while True:
            try:
                assert all(client.set(f"key:{number}", "v") for number in range(12))
                break
            except redis.RedisError:
                assert time.monotonic() < deadline
