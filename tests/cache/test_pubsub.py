from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from rootstream_store.cache import Cache, Gap, Message, Publish, Subscription
from rootstream_store.errors import (
    InvalidInput,
    PermissionDenied,
    SettingsError,
    StoreClosed,
    Timeout,
    Unavailable,
)

from .conftest import OwnValkey

MakeCache = Callable[..., Cache]
Until = Callable[..., None]


def test_what_is_published_after_subscribing_arrives_in_order(cache: Cache) -> None:
    with cache.subscribe("news", timeout=5) as news:
        cache.run([Publish("news", b"%d" % n) for n in range(500)])
        assert [next(iter(news)) for _ in range(500)] == [Message("news", b"%d" % n) for n in range(500)]


def test_channels_and_patterns_with_any_text(cache: Cache) -> None:
    names = ["nul\0inside", "two words", "ключ-🎥", "stream:7:events"]
    with cache.subscribe(*names, *names, patterns=["stream:8*", "stream:9*"]) as messages:
        for name in [*names, "stream:80:events"]:
            cache.redis.publish(name, name.encode() + b"\xff")
        received = [messages.get(5) for _ in range(5)]
    assert received == [(n, n.encode() + b"\xff") for n in [*names, "stream:80:events"]]


def test_a_channel_that_is_no_utf8_can_be_told_apart(cache: Cache) -> None:
    with cache.subscribe(patterns=["*"]) as messages:
        cache.redis.publish(b"\xff\xfe", b"data")
        received = messages.get(5)
    assert isinstance(received, Message)
    assert received.channel.encode(errors="surrogateescape") == b"\xff\xfe"


def test_messages_as_large_as_a_frame(cache: Cache) -> None:
    data = b"\x00\xff\r\n" * 250_000
    with cache.subscribe("big") as messages:
        cache.redis.publish("big", data)
        assert messages.get(5) == ("big", data)


def test_nothing_in_the_time_asked_is_none(cache: Cache) -> None:
    with cache.subscribe("quiet", timeout=0.1) as quiet:
        started = time.monotonic()
        assert quiet.get(0.1) is None
        assert quiet.get(0) is None
        assert list(quiet) == []
        assert 0.19 < time.monotonic() - started < 1


def test_a_waiting_subscriber_blocks_nobody(make_cache: MakeCache) -> None:
    cache = make_cache(redis_pool_size=1)
    subscriptions = [cache.subscribe("quiet") for _ in range(5)]
    threads = [threading.Thread(target=lambda s=s: list(s)) for s in subscriptions]
    for thread in threads:
        thread.start()
    best = min(_timed(cache) for _ in range(50))
    assert best < 0.02
    for subscription in subscriptions:
        subscription.close()
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()


@pytest.mark.parametrize("state", ["well", "frozen", "dead"])
def test_close_ends_a_waiting_reader_at_once(cache: Cache, own_valkey: OwnValkey, state: str) -> None:
    subscription = cache.subscribe("quiet")
    ended: list[float] = []
    reading = threading.Event()

    def read() -> None:
        reading.set()
        assert list(subscription) == []
        ended.append(time.monotonic())

    reader = threading.Thread(target=read)
    reader.start()
    assert reading.wait(5)
    # The reader has it, so a second one waits in vain, but no longer than it asked for.
    assert subscription.get(0.05) is None
    if state == "frozen":
        own_valkey.freeze()
    elif state == "dead":
        own_valkey.kill()
    closed = time.monotonic()
    subscription.close()
    reader.join(5)
    assert not reader.is_alive()
    assert ended[0] - closed < (0.1 if state == "well" else 0.8)
    assert subscription.closed
    assert subscription.get(1) is None
    subscription.close()


def test_close_inside_the_loop_ends_it(cache: Cache) -> None:
    with cache.subscribe("news", timeout=5) as news:
        cache.run([Publish("news", "1"), Publish("news", "2")])
        received = []
        for message in news:
            received.append(message)
            news.close()
    assert received == [("news", b"1")]


def test_a_gap_is_told_once_and_before_what_came_after_it(cache: Cache, own_valkey: OwnValkey) -> None:
    with cache.subscribe("news", patterns=["new*"], timeout=5) as news:
        cache.redis.publish("news", "before")
        assert [news.get(5), news.get(5)] == [("news", b"before")] * 2
        own_valkey.kill()
        assert news.get(0.3) is None
        assert news.last_error is not None
        own_valkey.start()
        gap = news.get(5)
        assert isinstance(gap, Gap)
        assert 0.3 <= gap.seconds < 5
        cache.redis.publish("news", "after")
        assert [news.get(5), news.get(5)] == [("news", b"after")] * 2
        assert news.get(0.05) is None


def test_a_dropped_connection_alone_is_a_gap(cache: Cache, own_valkey: OwnValkey) -> None:
    """The server was never away: redis-py would go on as if nothing had happened."""
    with cache.subscribe("news") as news:
        cache.redis.client_kill_filter(_type="pubsub")
        cache.redis.publish("news", "lost")
        gap = news.get(5)
        assert isinstance(gap, Gap)
        cache.redis.publish("news", "received")
        assert news.get(5) == ("news", b"received")


def test_a_server_that_stops_answering_is_noticed(
    cache: Cache, own_valkey: OwnValkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rootstream_store.cache.pubsub._PING_AFTER", 0.1)
    with cache.subscribe("news") as news:
        # Its own PINGs are answered, so silence of the channel alone is no gap.
        assert news.get(0.8) is None
        assert trouble(news) is None
        own_valkey.freeze()
        assert news.get(1.2) is None
        assert trouble(news) is not None
        own_valkey.thaw()
        assert isinstance(news.get(5), Gap)


def test_a_subscription_needs_a_channel(cache: Cache) -> None:
    with pytest.raises(InvalidInput, match="channel"):
        cache.subscribe()
    with pytest.raises(InvalidInput, match="patterns"):
        cache.subscribe(patterns="news*")
    with pytest.raises(InvalidInput, match="channels"):
        cache.subscribe("\ud800")
    wrong: Any
    for wrong in (1, None, b"news"):
        with pytest.raises(InvalidInput, match="channels"):
            cache.subscribe(wrong)
        with pytest.raises(InvalidInput, match="patterns"):
            cache.subscribe(patterns=[wrong])
    for wrong in (1, None, b"news*"):
        with pytest.raises(InvalidInput, match="patterns"):
            cache.subscribe("news", patterns=wrong)


@pytest.mark.parametrize("timeout", [float("nan"), float("inf"), 1e300, 10**300, "1", True])
def test_a_timeout_that_is_no_time_is_refused(cache: Cache, timeout: Any) -> None:
    with pytest.raises(InvalidInput, match="timeout"):
        cache.subscribe("news", timeout=timeout)
    with cache.subscribe("news") as news, pytest.raises(InvalidInput, match="timeout"):
        news.get(timeout)


def test_a_timeout_in_the_past_takes_what_is_there(cache: Cache) -> None:
    with cache.subscribe("news") as news:
        assert news.get(-1) is None


def test_no_server_is_our_error_in_the_time_set(cache: Cache, own_valkey: OwnValkey) -> None:
    own_valkey.freeze()
    started = time.monotonic()
    with pytest.raises(Timeout, match="subscribing") as frozen:
        cache.subscribe("news")
    assert time.monotonic() - started < 0.6
    assert frozen.value.retryable
    own_valkey.kill()
    with pytest.raises(Unavailable, match="subscribing") as dead:
        cache.subscribe("news")
    assert dead.value.retryable
    assert dead.value.__cause__ is not None


def test_a_wrong_password_is_a_wrong_setting(make_cache: MakeCache, own_valkey: OwnValkey) -> None:
    make_cache().redis.config_set("requirepass", "right")
    cache = make_cache(redis_url=f"{own_valkey.url}?password=wr0ng")
    with pytest.raises(SettingsError, match="redis_url") as caught:
        cache.subscribe("news")
    assert "wr0ng" not in str(caught.value)
    with make_cache(redis_url=f"{own_valkey.url}?password=right").subscribe("news") as news:
        assert news.get(0) is None


def test_a_channel_that_the_user_may_not_read_is_told(make_cache: MakeCache, own_valkey: OwnValkey) -> None:
    command: Callable[..., object] = make_cache().redis.execute_command
    command("ACL", "SETUSER", "bob", "on", ">pass", "+@all", "~*", "&mine")
    cache = make_cache(redis_url=f"{own_valkey.url}?username=bob&password=pass")
    with pytest.raises(PermissionDenied):
        cache.subscribe("theirs")
    cache.subscribe("mine").close()


def test_closing_the_cache_ends_its_subscriptions(make_cache: MakeCache) -> None:
    cache = make_cache()
    subscription = cache.subscribe("quiet")
    reader = threading.Thread(target=list, args=(subscription,))
    reader.start()
    cache.close()
    reader.join(5)
    assert not reader.is_alive()
    assert subscription.closed
    with pytest.raises(StoreClosed):
        cache.subscribe("quiet")


def test_closing_many_while_the_server_is_frozen_takes_no_longer_than_one(
    make_cache: MakeCache, own_valkey: OwnValkey
) -> None:
    cache = make_cache()
    readers = [threading.Thread(target=list, args=(cache.subscribe("quiet"),)) for _ in range(40)]
    for reader in readers:
        reader.start()
    own_valkey.freeze()
    started = time.monotonic()
    cache.close()
    assert time.monotonic() - started < 1.5
    for reader in readers:
        reader.join(5)
        assert not reader.is_alive()


def trouble(subscription: Subscription) -> str | None:
    """A call, so that mypy does not take it for unchanged from one assertion to the next."""
    return subscription.last_error


def _timed(cache: Cache) -> float:
    started = time.perf_counter()
    cache.redis.ping()
    return time.perf_counter() - started


def test_closing_while_others_subscribe_leaves_nothing_open(make_cache: MakeCache, until: Until) -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(10):
            cache = make_cache()
            made: list[Subscription] = []

            def subscribe(cache: Cache = cache, made: list[Subscription] = made) -> None:
                with contextlib.suppress(StoreClosed):
                    while True:
                        with contextlib.suppress(Timeout):  # eight threads that switch all the time are slow
                            made.append(cache.subscribe("news"))

            threads = [threading.Thread(target=subscribe) for _ in range(8)]
            for thread in threads:
                thread.start()
            until(lambda made=made: len(made) > 200, "many subscriptions")
            cache.close()
            for thread in threads:
                thread.join()
            assert all(subscription.closed for subscription in made)
    finally:
        sys.setswitchinterval(interval)
