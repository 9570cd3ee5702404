"""The ranking of streams by their viewers, page by page."""

from __future__ import annotations

from typing import Any

import pytest

from rootstream_store.cache import keys
from rootstream_store.errors import InvalidInput
from rootstream_store.records import RankedStream
from rootstream_store.repositories import streams, viewers
from rootstream_store.store import Store

from ..factories import make_stream, make_user


@pytest.fixture
def watched(store: Store) -> dict[int, int]:
    """Streams on air: id → viewers. Many have the same number."""
    owner = make_user(store)
    found = {}
    for number in range(40):
        stream = make_stream(store, owner.id)
        streams.start(store, stream.id)
        found[stream.id] = number % 4
        viewers.set(store, stream.id, number % 4)
    return found


def expected(watched: dict[int, int]) -> list[RankedStream]:
    order = sorted(((count, stream_id) for stream_id, count in watched.items()), reverse=True)
    return [RankedStream(stream_id=stream_id, viewers=count) for count, stream_id in order]


def pages(store: Store, size: int) -> list[RankedStream]:
    found: list[RankedStream] = []
    while page := viewers.top(store, limit=size, after=found[-1] if found else None):
        assert len(page) <= size
        found += page
    return found


@pytest.mark.parametrize("size", [1, 7, 40, 1000])
@pytest.mark.parametrize("where", ["redis", "postgresql"])
def test_pages_have_each_stream_once_and_in_order(
    store: Store, watched: dict[int, int], size: int, where: str
) -> None:
    viewers.flush(store)
    if where == "postgresql":
        store.redis.delete(keys.BY_VIEWERS)
    assert pages(store, size) == expected(watched)
    assert store.redis.exists(keys.BY_VIEWERS) == (where == "redis")


def test_a_page_after_a_stream_that_has_moved_or_gone_goes_on_where_it_was(
    store: Store, watched: dict[int, int]
) -> None:
    viewers.flush(store)
    ranking = expected(watched)
    last = ranking[14]
    viewers.set(store, last.stream_id, 0)
    viewers.flush(store)
    rest = [one for one in ranking[15:] if one.viewers > 0]
    assert viewers.top(store, limit=len(rest), after=last) == rest
    streams.stop(store, last.stream_id)
    viewers.flush(store)
    assert viewers.top(store, limit=len(rest), after=last) == rest


def test_only_public_streams_on_air_are_ranked(store: Store, watched: dict[int, int]) -> None:
    viewers.flush(store)
    hidden, stopped, *_ = expected(watched)
    streams.update(store, hidden.stream_id, is_public=False)
    streams.stop(store, stopped.stream_id)
    # The one that has ended is gone at once, the other with the next flush.
    assert stopped not in viewers.top(store)
    viewers.flush(store)
    assert [one for one in expected(watched) if one not in (hidden, stopped)] == pages(store, 9)
    store.redis.delete(keys.BY_VIEWERS)
    assert [one for one in expected(watched) if one not in (hidden, stopped)] == pages(store, 9)


def test_a_ranking_that_nobody_renews_ends(store: Store, watched: dict[int, int]) -> None:
    viewers.flush(store)
    assert 0 < int(str(store.redis.ttl(keys.BY_VIEWERS))) <= 60
    for stream_id in watched:
        streams.stop(store, stream_id)
    viewers.flush(store)
    assert store.redis.keys("*viewers*") == []
    assert viewers.top(store) == []


@pytest.mark.parametrize("limit", [0, 1001, True, "5", None])
def test_what_is_no_page_is_refused(store: Store, limit: Any) -> None:
    with pytest.raises(InvalidInput, match="limit"):
        viewers.top(store, limit=limit)
    with pytest.raises(InvalidInput, match="after"):
        viewers.top(store, after=7)  # type: ignore[call-overload]  # that is the test
