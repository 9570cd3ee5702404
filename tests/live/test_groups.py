"""Messages and states on a primary that sentinels watch, and on a cluster."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rootstream_store import Store, live, streams
from rootstream_store.cache import Message, keys

from ..cache.groups import ClusterGroup, SentinelGroup, cluster_group, sentinel_group
from ..factories import make_stream
from ..waiting import until
from .conftest import Goal, drain


@pytest.fixture(scope="module", params=["sentinel", "cluster"])
def group(request: pytest.FixtureRequest) -> Iterator[SentinelGroup | ClusterGroup]:
    """One that no test here breaks."""
    with sentinel_group() if request.param == "sentinel" else cluster_group(replicas=False) as made:
        yield made


@pytest.fixture
def grouped(group: SentinelGroup | ClusterGroup, database_url: str) -> Iterator[Store]:
    with Store.open(database_url, group.url) as store:
        yield store


def test_messages_and_states_arrive(grouped: Store) -> None:
    store = grouped
    stream = make_stream(store).id
    with (
        live.subscribe(store, ["stream.*", "goal.*"], types=[Goal]) as messages,
        live.follow_state(store, stream) as follower,
        store.subscribe(keys.events(stream)) as old,
    ):
        streams.start(store, stream)
        for number in range(100):
            live.publish(store, Goal(stream_id=1, number=number), soon=number % 2 == 0)
        found = drain(messages, 101)
        assert isinstance(found[0], live.Received)
        assert isinstance(found[0].message, live.StreamStarted)
        assert {one.message.number for one in found[1:] if isinstance(one, live.Received)} == set(  # type: ignore[union-attr]  # Goals
            range(100)
        )
        first = live.update_state(store, stream, {"a": 1})
        live.push_state(store, stream, {"b": 2})
        state = follower.get(10)
        while not isinstance(state, live.StateSnapshot) or state.version < first + 1:
            item = follower.get(10)
            assert item is not None
            if isinstance(item, live.StateSnapshot):
                state = item
            else:
                assert isinstance(state, live.StateSnapshot)
                state = state.after(item)
        assert state == live.get_state(store, stream)
        assert state.values == {"a": 1, "b": 2}
        streams.stop(store, stream)
        assert 0 < store.redis.ttl(keys.state(stream)) <= 300
        assert [old.get(10), old.get(10)] == [
            Message(keys.events(stream), b"started"),
            Message(keys.events(stream), b"ended"),
        ]
    assert store._cache.counters.lost_effects == 0
    with live.subscribe(store, since=found[50].id, types=[Goal]) as messages:  # type: ignore[union-attr]  # no gap
        assert len(drain(messages, 53)) == 53
        assert messages.get(0.05) is None
    assert live.delete_state(store, stream) is True


def test_a_failover_is_no_loss_that_is_not_told(database_url: str) -> None:
    with (
        sentinel_group() as group,
        Store.open(database_url, group.url, redis_retry_after=0.1) as store,
        live.subscribe(store, types=[Goal]) as messages,
    ):
        for number in range(50):
            live.publish(store, Goal(stream_id=1, number=number))
        replica = group.replica
        until(lambda: replica.admin.xlen(keys.MESSAGES) == 50)
        group.primary.kill()
        numbers: list[int] = []
        told = 0
        sent = 50

        def after_it() -> bool:
            nonlocal sent, told
            live.publish(store, Goal(stream_id=1, number=sent))
            sent += 1
            while (one := messages.get(0.05)) is not None:
                if isinstance(one, live.Gap):
                    assert one.reason == "unpublished"
                    told += one.missing or 0
                elif isinstance(one.message, Goal):
                    numbers.append(one.message.number)
            return told > 0 and numbers[-1] > 50

        until(after_it, "a message after the failover", 30)
        assert numbers[:50] == list(range(50))
        assert numbers == sorted(set(numbers))
        until(lambda: after_it() and sent - len(numbers) <= told, "all that is lost to be told")
