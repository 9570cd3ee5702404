"""Viewers on a primary that sentinels watch, and on a cluster."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from redis.crc import key_slot

from rootstream_store.cache import keys
from rootstream_store.errors import Conflict
from rootstream_store.records import RankedStream, ViewerCount
from rootstream_store.repositories import streams, viewers
from rootstream_store.store import Store

from ..cache.groups import ClusterGroup, SentinelGroup, cluster_group, sentinel_group
from ..factories import make_stream_session
from ..waiting import until
from .conftest import totals

LONGEST = 0.6
"""Seconds that Redis may hold up a call."""


@pytest.fixture(scope="module", params=["sentinel", "cluster"])
def group(request: pytest.FixtureRequest) -> Iterator[SentinelGroup | ClusterGroup]:
    """One that no test here breaks."""
    with sentinel_group() if request.param == "sentinel" else cluster_group(replicas=False) as made:
        yield made


@pytest.fixture
def grouped(group: SentinelGroup | ClusterGroup, database_url: str) -> Iterator[Store]:
    servers = group.servers if isinstance(group, ClusterGroup) else [group.primary]
    for server in servers:
        server.admin.flushall()  # the ids of streams begin anew in each test's database
    with Store.open(database_url, group.url, redis_timeout=20) as store:
        yield store


def test_each_call_is_answered_by_redis(grouped: Store) -> None:
    store = grouped
    on_air = [make_stream_session(store) for _ in range(12)]
    for number, session in enumerate(on_air):
        stream = session.stream_id
        for viewer in range(number + 2):
            assert viewers.join(store, stream, viewer) == ViewerCount(
                current=viewer + 1, is_change=True, is_counted=True
            )
        assert viewers.heartbeat(store, stream, 0) == ViewerCount(
            current=number + 2, is_change=False, is_counted=True
        )
        assert viewers.leave(store, stream, 0) == ViewerCount(
            current=number + 1, is_change=True, is_counted=True
        )
        assert viewers.set(store, stream, 100, source="edge").current == number + 101
        figures = viewers.get(store, stream)
        assert (figures.current, figures.peak, figures.is_from_redis) == (number + 101, number + 101, True)
        assert figures.session_id == session.id
        assert store.redis.get(keys.viewers(stream)) == str(number + 101).encode()
        viewers.set(store, stream, 0, source="edge")
    report = viewers.flush(store)
    assert (report.streams, report.flushed, report.is_complete) == (12, 12, True)
    ranked = [
        RankedStream(stream_id=session.stream_id, viewers=number + 1) for number, session in enumerate(on_air)
    ][::-1]
    first = viewers.top(store, limit=5)
    assert first + viewers.top(store, limit=100, after=first[-1]) == ranked
    assert store.redis.exists(keys.BY_VIEWERS) == 1
    for number, session in enumerate(on_air):
        stream = session.stream_id
        assert totals(store, stream) == (number + 1, number + 101, number + 101, number + 2)
        viewers.join(store, stream, "late")
        ended = streams.stop(store, stream)
        assert (ended.peak_viewers, ended.total_viewers) == (number + 101, number + 102)
        with pytest.raises(Conflict):
            viewers.join(store, stream, "too late")
        assert viewers.get(store, stream).current == 0
    assert viewers.top(store) == []
    counters = store._cache.counters
    assert (counters.failures, counters.refusals, counters.lost_effects) == (0, 0, 0)


def test_a_node_of_a_cluster_away_and_back_empty(database_url: str) -> None:
    with (
        cluster_group(replicas=False) as group,
        Store.open(database_url, group.url, redis_retry_after=0.2) as store,
    ):
        for server in group.servers:
            server.admin.config_set("cluster-require-full-coverage", "no")
        on_air = [make_stream_session(store).stream_id for _ in range(12)]
        # Not the one that has the ranking, so that there is one to be made.
        ranking = group.owner(key_slot(keys.BY_VIEWERS.encode()))
        victim = next(server for stream in on_air if (server := group.owner(slot(stream))) is not ranking)
        gone = [stream for stream in on_air if group.owner(slot(stream)) is victim]
        rest = [stream for stream in on_air if stream not in gone]
        assert rest
        for stream in on_air:
            for viewer in range(3):
                assert viewers.join(store, stream, viewer).is_counted
        assert viewers.flush(store).is_complete
        victim.kill()
        for stream in gone:
            assert quick(store, stream, "ann") == ViewerCount(current=3, is_change=False, is_counted=False)
        for stream in rest:
            until(lambda stream=stream: quick(store, stream, "ann").is_counted, "the others to go on")  # type: ignore[misc]  # mypy and defaults
            assert viewers.get(store, stream).current == 4
        report = viewers.flush(store)
        assert (report.flushed, report.is_complete) == (len(rest), False)
        for stream in on_air:
            now = 3 if stream in gone else 4
            assert totals(store, stream) == (now, now, now, now)
        assert {one.stream_id: one.viewers for one in viewers.top(store)} == {
            stream: 3 if stream in gone else 4 for stream in on_air
        }
        ended = streams.stop(store, gone[0])
        assert (ended.peak_viewers, ended.total_viewers) == (3, 3)
        victim.start()
        until(lambda: store.health().redis.reachable, "the node to be back")
        for stream in on_air:
            if stream == gone[0]:
                with pytest.raises(Conflict):
                    viewers.heartbeat(store, stream, 0)
                continue
            for viewer in range(3):
                until(
                    lambda stream=stream, viewer=viewer: viewers.heartbeat(store, stream, viewer).is_counted,  # type: ignore[misc]  # mypy and defaults
                    "to be counted again",
                )
            assert viewers.join(store, stream, "ann").is_counted
            figures = viewers.get(store, stream)
            assert (figures.current, figures.peak, figures.is_from_redis) == (4, 4, True)
        assert viewers.flush(store).is_complete
        for stream in on_air:
            if stream != gone[0]:
                assert totals(store, stream) == (4, 4, 4, 4)


def slot(stream_id: int) -> int:
    return key_slot(keys.viewers(stream_id).encode())


def quick(store: Store, stream_id: int, viewer: str) -> ViewerCount:
    start = time.monotonic()
    answer = viewers.join(store, stream_id, viewer)
    assert time.monotonic() - start < LONGEST
    return answer
