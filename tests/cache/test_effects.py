from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from rootstream_store.cache import Cache, Delete, Effect, Invalidate, Publish, SetValue, keys
from rootstream_store.errors import InvalidInput

from .conftest import NOTHING, OwnValkey, cached


def test_each_effect_does_what_it_says(cache: Cache) -> None:
    cache.redis.set("old", 1)
    cache.get_or_load("cached", lambda: (b"value", 60))
    with cache.subscribe("news") as news:
        cache.run(
            [
                SetValue(keys.live(7), "1", keys.LIVE_TTL),
                SetValue("for ever", b"\x00\xff", None),
                SetValue("number", 42, 0.5),
                Delete("old"),
                Invalidate("cached"),
                Publish("news", "höre"),
            ]
        )
        message = news.get(5)
    assert message == ("news", "höre".encode())
    assert cache.redis.get("stream:7:live") == b"1"
    assert 3590 < cache.redis.ttl("stream:7:live") <= 3600
    assert cache.redis.get("for ever") == b"\x00\xff"
    assert cache.redis.ttl("for ever") == -1
    assert 0 < cache.redis.pttl("number") <= 500
    assert cache.redis.get("old") is None
    assert cached(cache, "cached") is NOTHING


def test_all_effects_are_one_round_trip(cache: Cache, own_valkey: OwnValkey) -> None:
    cache.redis.ping()
    before = cache.redis.info("stats")["total_reads_processed"]
    cache.run([SetValue(f"key{n}", n, 60) for n in range(20)])
    after = cache.redis.info("stats")["total_reads_processed"]
    # One read for the effects, one for the second INFO itself.
    assert after - before == 2


def test_whoever_is_woken_by_a_message_reads_what_is_new(cache: Cache) -> None:
    """The message is first in the list, yet the cache is cleared before it."""
    truth = {"value": b"old"}

    def load() -> tuple[bytes, float]:
        return truth["value"], 60

    seen = []
    with cache.subscribe("changed", timeout=5) as changes:

        def watch() -> None:
            for _ in changes:
                seen.append(cache.get_or_load("key", load))
                return

        for round_ in range(50):
            cache.get_or_load("key", load)
            watcher = threading.Thread(target=watch)
            watcher.start()
            truth["value"] = b"%d" % round_
            cache.run([Publish("changed", ""), Invalidate("key")])
            watcher.join(5)
    assert seen == [b"%d" % n for n in range(50)]


def test_a_refused_effect_does_not_stop_the_others(cache: Cache, caplog: pytest.LogCaptureFixture) -> None:
    cache.redis.config_set("maxmemory-policy", "noeviction")
    cache.redis.config_set("maxmemory", 1)
    cache.run([SetValue("key", "v", 60), SetValue("other", "v", 60), Delete("nothing")])
    assert cache.counters.lost_effects == 2
    assert cache.counters.refusals == 2
    assert len(caplog.records) == 1
    assert "OutOfMemoryError" in caplog.text


def test_a_dead_server_is_counted_not_raised_and_invalidations_are_made_up_for(
    cache: Cache, own_valkey: OwnValkey, until: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    cache.redis.ping()
    own_valkey.freeze()
    started = time.monotonic()
    cache.run([SetValue("key", "v", 60), Publish("a", "b"), Invalidate("cached")])
    cache.run([Delete("key")])
    assert time.monotonic() - started < 0.6
    assert cache.counters.lost_effects == 3
    assert cache.health().pending_invalidations == 1
    assert len(caplog.records) == 1
    own_valkey.thaw()
    until(lambda: cache.health().pending_invalidations == 0, "the invalidation to be made up for")


BAD = "\ud800"


@pytest.mark.parametrize(
    ("make", "field"),
    [
        *((lambda ttl=ttl: SetValue("key", "v", ttl), "ttl") for ttl in (0, -1, 1e300, 10**5000, True, "1")),
        *((lambda ttl=ttl: SetValue("key", "v", ttl), "ttl") for ttl in (float("nan"), float("inf"))),
        *((lambda it=it: SetValue("key", it, 1), "value") for it in (1.5, None, True, BAD, 2**63, 10**5000)),
        *((lambda it=it: SetValue(it, "v", 1), "key") for it in (BAD, 5, None, b"key")),
        *((lambda it=it: Publish(it, "v"), "channel") for it in (BAD, 5, None, b"news")),
        *((lambda it=it: Publish("news", it), "payload") for it in (BAD, 5, None)),
        *((lambda it=it: Invalidate(it), "key") for it in (BAD, 5, None, b"key")),
        *((lambda it=it: Delete(it), "key") for it in (BAD, 5, None, b"key")),
    ],
)
def test_an_effect_that_could_not_be_sent_cannot_be_made(make: Callable[[], Effect], field: str) -> None:
    """An error after the commit would have the caller apply the change twice."""
    with pytest.raises(InvalidInput) as caught:
        make()
    assert caught.value.field == field


def test_the_outermost_effects_that_can_be_made_are_sent(cache: Cache) -> None:
    cache.run([SetValue("least", -(2**63), 1e12), SetValue("most", 2**63 - 1, 1e-9), Publish("", b"")])
    assert cache.counters.lost_effects == cache.counters.refusals == 0
    assert cache.redis.get("least") == b"-9223372036854775808"


def test_what_is_no_effect_is_counted_and_stops_no_other(
    cache: Cache, caplog: pytest.LogCaptureFixture
) -> None:
    strangers: list[Any] = ["PUBLISH", None, SetValue("key", "v", None)]
    cache.run(strangers)
    assert cache.counters.lost_effects == 2
    assert cache.redis.get("key") == b"v"
    assert "not an effect, so nothing was sent for it: str" in caplog.text


def test_no_effects_are_no_call(cache: Cache, own_valkey: OwnValkey) -> None:
    own_valkey.kill()
    cache.run([])
    assert cache.counters.failures == 0
