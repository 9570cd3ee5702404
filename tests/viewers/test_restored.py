"""A Redis that comes back with an old dump: nobody is counted to a session that has ended, nor lost."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rootstream_store.cache import UNREACHED, Ask, Script, keys
from rootstream_store.cache._entry import HEAD
from rootstream_store.errors import Conflict
from rootstream_store.records import ViewerCount
from rootstream_store.repositories import streams, viewers
from rootstream_store.store import Store

from ..cache.conftest import OwnValkey, until
from ..factories import make_stream_session
from .conftest import totals

Call = Callable[[Store, int], ViewerCount]
CALLS: list[Call] = [
    lambda store, live: viewers.join(store, live, "bob"),
    lambda store, live: viewers.heartbeat(store, live, "bob"),
    lambda store, live: viewers.set(store, live, 1),
]
STAMP = Script("return ARGV[#ARGV]")


@pytest.fixture
def restorable(open_store: Callable[..., Store], own_valkey: OwnValkey) -> Store:
    """A store that waits for Redis for as long as it takes, also on a machine that is busy."""
    return open_store(redis_url=own_valkey.url, redis_retry_after=0.2, redis_timeout=20)


def restart(own_valkey: OwnValkey) -> None:
    """With what SAVE wrote last."""
    own_valkey.kill()
    own_valkey.start()


def flush(store: Store) -> None:
    """A thread in the background may find the server gone before: then it is not asked at once."""
    until(lambda: viewers.flush(store).is_complete, "Redis to be asked again")


@pytest.mark.parametrize("call", CALLS)
def test_nobody_is_counted_to_the_session_of_the_dump(
    restorable: Store, own_valkey: OwnValkey, call: Call
) -> None:
    first = make_stream_session(restorable)
    live = first.stream_id
    viewers.join(restorable, live, "ann")
    restorable.redis.save()
    streams.stop(restorable, live)
    second = streams.start(restorable, live)
    restart(own_valkey)
    raw: bytes = restorable.redis.get(keys.on_air(live))  # type: ignore[assignment]  # redis-py knows no decode_responses
    assert raw[HEAD:].startswith(b'{"id":%d,' % first.id), "the dump holds what was removed since"
    until(lambda: call(restorable, live).is_counted, "Redis to be asked again")
    figures = viewers.get(restorable, live)
    assert (figures.session_id, figures.current, figures.is_from_redis) == (second.id, 1, True)
    viewers.flush(restorable)
    assert totals(restorable, live, second.id)[:2] == (1, 1)
    assert totals(restorable, live, first.id)[1:] == (1, 1, 1)


def test_the_figures_are_not_those_of_the_session_of_the_dump(
    restorable: Store, own_valkey: OwnValkey
) -> None:
    live = make_stream_session(restorable).stream_id
    viewers.join(restorable, live, "ann")
    restorable.redis.save()
    streams.stop(restorable, live)
    second = streams.start(restorable, live)
    restart(own_valkey)
    found = [viewers.get(restorable, live) for _ in range(3)]
    assert {(one.session_id, one.current, one.peak) for one in found} == {(second.id, 0, 0)}


@pytest.mark.parametrize("call", CALLS)
def test_a_stream_that_the_dump_has_on_air_is_off_air(
    restorable: Store, own_valkey: OwnValkey, call: Call
) -> None:
    live = make_stream_session(restorable).stream_id
    viewers.join(restorable, live, "ann")
    restorable.redis.save()
    streams.stop(restorable, live)
    restart(own_valkey)
    with pytest.raises(Conflict):
        call(restorable, live)
    assert viewers.get(restorable, live).current == 0


def test_visits_after_a_dump_older_than_the_last_flush_are_all_in_the_total(
    restorable: Store, own_valkey: OwnValkey
) -> None:
    live = make_stream_session(restorable).stream_id
    viewers.join(restorable, live, "ann")
    restorable.redis.save()
    for number in range(5):
        viewers.join(restorable, live, number)
    viewers.flush(restorable)
    assert totals(restorable, live) == (6, 6, 6, 6)
    restart(own_valkey)
    # The flush sees that the counter is behind what was flushed of it.
    flush(restorable)
    for number in range(5, 8):
        assert viewers.join(restorable, live, number).is_counted
    viewers.flush(restorable)
    assert totals(restorable, live)[2] == 9


def test_a_counter_from_before_one_that_was_flushed(restorable: Store, own_valkey: OwnValkey) -> None:
    live = make_stream_session(restorable).stream_id
    viewers.join(restorable, live, "ann")
    restorable.redis.save()
    restorable.redis.flushall()
    viewers.join(restorable, live, "bob")
    viewers.flush(restorable)
    restart(own_valkey)
    flush(restorable)
    assert viewers.join(restorable, live, "carol").is_counted
    viewers.flush(restorable)
    now, _, total, _ = totals(restorable, live)
    assert (now, total) == (2, 2), "ann was never flushed, and is there again; bob and carol are visits"


def test_an_ask_that_wants_the_stamp_has_that_of_the_server(restorable: Store, own_valkey: OwnValkey) -> None:
    cache = restorable._cache
    question: Ask[bytes] = Ask(STAMP, ["key"], ["first"], bytes, is_stamped=True)
    assert cache.ask(Ask(STAMP, ["key"], ["first"], bytes)) == b"first"
    before = cache._lease.generation.stamp
    assert before is not None
    assert cache.ask(question) == before
    assert cache.ask_all([question, Ask(STAMP, ["key"], ["second"], bytes)]) == [before, b"second"]
    restart(own_valkey)
    # Sent with the old one, on a connection that told of the new one.
    assert cache.ask(question) is UNREACHED
    assert cache.ask(question) == cache._lease.generation.stamp != before
    restart(own_valkey)
    assert cache.ask_all([question, Ask(STAMP, ["key"], ["second"], bytes)]) == [UNREACHED, b"second"]


def test_without_a_stamp_it_is_not_asked(open_store: Callable[..., Store], own_valkey: OwnValkey) -> None:
    own_valkey.kill()
    store = open_store(redis_url=own_valkey.url, redis_retry_after=0.2)
    question: Ask[bytes] = Ask(STAMP, ["key"], [], bytes, is_stamped=True)
    assert store._cache.ask(question) is UNREACHED
    assert store._cache.ask_all([question, question]) == [UNREACHED, UNREACHED]
    own_valkey.start()
    live = make_stream_session(store).stream_id
    until(lambda: viewers.join(store, live, "ann").is_counted, "Redis to be asked again")
