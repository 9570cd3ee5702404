"""Wake-ups: sent by a thread, merged, lost without an error."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from rootstream_store.cache import Cache, Message, Wake, keys
from rootstream_store.cache._wakes import PAUSE
from rootstream_store.errors import InvalidInput
from rootstream_store.settings import Settings
from rootstream_store.store import Store

from ..undo import rolled_back
from ..waiting import until

CHANNEL = keys.APPENDED


@pytest.fixture
def cache(redis_url: str) -> Iterator[Cache]:
    opened = Cache(settings(redis_url))
    yield opened
    opened.close()


def settings(redis_url: str | None) -> Settings:
    return Settings.create(database_url="postgresql://nobody@127.0.0.1:1/none", redis_url=redis_url)


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "rootstream-wake"]


def test_a_wake_up_arrives(cache: Cache) -> None:
    with cache.subscribe(CHANNEL) as messages:
        cache.run([Wake(CHANNEL, 17)])
        assert messages.get(10) == Message(CHANNEL, b"17")
        cache.wake(Wake(CHANNEL, 18))
        assert messages.get(10) == Message(CHANNEL, b"18")


def test_many_at_once_are_few_messages_and_the_last_is_kept(cache: Cache) -> None:
    with cache.subscribe(CHANNEL) as messages:
        began = time.monotonic()
        for number in range(10_000):
            cache.wake(Wake(CHANNEL, number))
        took = time.monotonic() - began
        received = [messages.get(10)]
        while received[-1] != Message(CHANNEL, b"9999"):
            received.append(messages.get(10))
    assert None not in received
    assert len(received) <= 2 + took / PAUSE + 10


def test_channels_do_not_displace_each_other(cache: Cache) -> None:
    with cache.subscribe("one", "two") as messages:
        for channel in ("one", "two"):
            cache.wake(Wake(channel, 1))
        received = {messages.get(10), messages.get(10)}
    assert received == {Message("one", b"1"), Message("two", b"1")}


def test_there_is_no_thread_before_it_is_needed_nor_after_the_end(redis_url: str) -> None:
    cache = Cache(settings(redis_url))
    assert threads() == []
    cache.wake(Wake(CHANNEL, 1))
    assert len(threads()) == 1
    cache.close()
    assert threads() == []
    cache.wake(Wake(CHANNEL, 2))
    assert threads() == []
    cache.close()


def test_closing_sends_what_is_left(redis_url: str, cache: Cache) -> None:
    with cache.subscribe(CHANNEL) as messages:
        other = Cache(settings(redis_url))
        for number in range(3):
            other.wake(Wake(CHANNEL, number))
        other.close()
        received = [messages.get(10)]
        while received[-1] != Message(CHANNEL, b"2"):
            assert received[-1] is not None
            received.append(messages.get(10))


def test_without_redis_there_is_nothing(redis_url: str) -> None:
    cache = Cache(settings(None))
    cache.wake(Wake(CHANNEL, 1))
    cache.run([Wake(CHANNEL, 1)])
    assert threads() == []
    cache.close()


def test_what_is_lost_is_counted_and_never_raised() -> None:
    cache = Cache(settings("redis://127.0.0.1:1/0"))
    cache.wake(Wake(CHANNEL, 1))
    until(lambda: cache.counters.lost_effects == 1)
    cache.wake(Wake(CHANNEL, 2))
    until(lambda: cache.counters.lost_effects == 2)
    assert cache.counters.skipped >= 1, "the breaker is asked"
    cache.close()


def test_a_transaction_wakes_when_it_commits_and_not_when_it_is_taken_back(store: Store) -> None:
    with store.subscribe(CHANNEL) as messages:
        with rolled_back(store) as tx:
            tx.after_commit(Wake(CHANNEL, 1))
        with store.transaction() as tx:
            tx.after_commit(Wake(CHANNEL, 2))
            assert messages.get(0.05) is None
        assert messages.get(10) == Message(CHANNEL, b"2")
        store.after_commit(Wake(CHANNEL, 3))
        assert messages.get(10) == Message(CHANNEL, b"3")


def test_a_writer_does_not_wait_for_it(cache: Cache) -> None:
    cache.wake(Wake(CHANNEL, 0))
    best = float("inf")
    for _ in range(20):
        began = time.perf_counter()
        for number in range(1000):
            cache.wake(Wake(CHANNEL, number))
        best = min(best, (time.perf_counter() - began) / 1000)
    assert best < 20e-6, "a round trip is more than this"


def test_a_forked_child_sends_by_a_thread_of_its_own(cache: Cache) -> None:
    cache.wake(Wake("warm", 0))
    with cache.subscribe(CHANNEL) as messages:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                cache.wake(Wake(CHANNEL, 5))
                until(lambda: not cache._runner._wakes._pending and cache._runner._wakes._is_asleep)
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        assert messages.get(10) == Message(CHANNEL, b"5")


@pytest.mark.parametrize("wrong", [("x", "1"), ("x", True), (b"x", 1), ("\ud800", 1)])
def test_what_could_never_be_sent_is_refused_when_it_is_made(wrong: tuple[Any, Any]) -> None:
    with pytest.raises(InvalidInput):
        Wake(*wrong)
