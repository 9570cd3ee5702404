from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootstream_store.cache import Cache
from rootstream_store.cache._entry import STAMP_SIZE, Kind, Tokens, decode, jittered, stored
from rootstream_store.errors import InvalidInput

from .conftest import NOTHING, OwnValkey, cached

MakeCache = Callable[..., Cache]


def never() -> NoReturn:
    raise AssertionError("loaded although it was cached")


def value(payload: bytes | None, ttl: float = 60) -> Callable[[], tuple[bytes | None, float]]:
    return lambda: (payload, ttl)


@given(st.none() | st.binary(), st.binary(min_size=STAMP_SIZE, max_size=STAMP_SIZE))
def test_entries_come_back_as_they_went_in(payload: bytes | None, stamp: bytes) -> None:
    kind = Kind.NEGATIVE if payload is None else Kind.VALUE
    entry = stored(payload, stamp)
    assert decode(entry) == (kind, payload or b"")
    assert entry[1 : 1 + STAMP_SIZE] == stamp


def test_an_answer_that_is_cut_off_is_none() -> None:
    assert decode(b"v" + b"1234567") is decode(b"n") is None


def test_a_lease_is_never_made_twice_and_is_no_value() -> None:
    tokens, others = Tokens(), Tokens()
    made = [source.make() for source in (tokens, others) for _ in range(1000)]
    assert len(set(made)) == 2000
    assert {entry[0] for entry in map(decode, made) if entry} == {Kind.LEASE}


def test_lifetimes_are_spread_by_a_tenth() -> None:
    spread = [jittered(100) for _ in range(1000)]
    assert 90 <= min(spread) < 92
    assert 108 < max(spread) <= 110


@pytest.mark.parametrize("payload", [b"", b"v", b"n", b"l", b"w", b"\x00", b"\xff" * 100_000])
def test_a_value_is_loaded_once_then_served(cache: Cache, payload: bytes) -> None:
    assert cached(cache, "key") is NOTHING
    assert cache.get_or_load("key", value(payload)) == payload
    assert cache.get_or_load("key", never) == payload
    assert cached(cache, "key") == payload
    counters = cache.counters
    assert (counters.hits, counters.misses, counters.fills) == (1, 1, 1)


@pytest.mark.parametrize("key", ["nul\0inside", "two words", "ключ-🎥", "\r\nDEL x\r\n", ""])
def test_keys_are_kept_whole(cache: Cache, key: str) -> None:
    cache.get_or_load("nul", value(b"other"))
    assert cache.get_or_load(key, value(b"this")) == b"this"
    assert cached(cache, key) == b"this"
    assert set(cache.redis.keys("*")) == {b"nul", key.encode()}
    cache.begin_write([key])
    cache.end_write([key])
    assert cache.redis.keys("*") == [b"nul"]


def test_that_there_is_nothing_is_cached_for_five_seconds(cache: Cache) -> None:
    assert cache.get_or_load("key", value(None, 3600)) is None
    assert cache.get_or_load("key", never) is None
    assert cached(cache, "key") is None
    assert 4000 < cache.redis.pttl("key") <= 5500


def test_a_value_lives_as_long_as_the_load_says(cache: Cache) -> None:
    cache.get_or_load("key", value(b"v", 1000))
    assert 899 <= cache.redis.ttl("key") <= 1100


@pytest.mark.parametrize("ttl", [0, -1, float("-inf")])
def test_what_may_not_be_cached_is_not(cache: Cache, ttl: float) -> None:
    assert cache.get_or_load("key", value(b"v", ttl)) == b"v"
    assert cache.redis.exists("key") == 0


@pytest.mark.parametrize(
    "loaded", [("text", 60), (b"v", float("nan")), (b"v", float("inf")), (bytearray(b"v"), 60)]
)
def test_a_load_that_returns_something_else_is_told(cache: Cache, loaded: tuple[bytes, float]) -> None:
    with pytest.raises(InvalidInput):
        cache.get_or_load("key", lambda: loaded)
    assert cache.redis.exists("key") == 0


def test_a_key_that_is_no_text_is_refused(cache: Cache) -> None:
    with pytest.raises(InvalidInput, match="key"):
        cache.get_or_load("\ud800", never)
    with pytest.raises(InvalidInput, match="keys"):
        cache.end_write("session:abc")


def test_a_failed_load_is_raised_and_holds_nobody_up(cache: Cache) -> None:
    def fail() -> NoReturn:
        raise LookupError("no database")

    with pytest.raises(LookupError, match="no database"):
        cache.get_or_load("key", fail)
    assert cache.redis.exists("key") == 0
    assert cache.get_or_load("key", value(b"v")) == b"v"


def test_fifty_threads_at_once_make_one_load(make_cache: Callable[..., Cache]) -> None:
    cache = make_cache(redis_timeout=2.0)  # on a busy machine an answer may take long
    loads = []
    together = threading.Barrier(50)

    def load() -> tuple[bytes, float]:
        loads.append(1)
        time.sleep(2.5)  # a slow query: longer than anybody waits on Redis for somebody else's load
        return b"value", 60

    results = []

    def read() -> None:
        together.wait(5)
        results.append(cache.get_or_load("key", load))

    _run(read, 50)
    assert results == [b"value"] * 50
    assert len(loads) == 1


def test_fifty_threads_without_redis_make_few_loads(cache: Cache, own_valkey: OwnValkey) -> None:
    own_valkey.kill()
    loads = []
    together = threading.Barrier(50)

    def load() -> tuple[bytes, float]:
        loads.append(1)
        time.sleep(0.1)  # as above
        return b"value", 60

    results = []

    def read() -> None:
        together.wait(5)
        results.append(cache.get_or_load("key", load))

    _run(read, 50)
    assert results == [b"value"] * 50
    assert len(loads) <= 5


def test_another_process_waits_for_the_load_that_runs(make_cache: MakeCache) -> None:
    one, other = make_cache(), make_cache()
    loading, go_on = threading.Event(), threading.Event()

    def load() -> tuple[bytes, float]:
        loading.set()
        assert go_on.wait(5)
        return b"value", 60

    leader = threading.Thread(target=one.get_or_load, args=("key", load))
    leader.start()
    assert loading.wait(5)
    threading.Timer(0.05, go_on.set).start()
    assert other.get_or_load("key", never) == b"value"
    leader.join(5)


def test_another_process_does_not_wait_long_and_does_not_fill(make_cache: MakeCache) -> None:
    one, other = make_cache(), make_cache()
    loading, go_on = threading.Event(), threading.Event()

    def load() -> tuple[bytes, float]:
        loading.set()
        assert go_on.wait(5)
        return b"of the lease", 60

    leader = threading.Thread(target=one.get_or_load, args=("key", load))
    leader.start()
    assert loading.wait(5)
    started = time.monotonic()
    assert other.get_or_load("key", value(b"its own")) == b"its own"
    assert time.monotonic() - started < 0.6
    assert cached(other, "key") is NOTHING
    go_on.set()
    leader.join(5)
    assert cached(other, "key") == b"of the lease"


def test_a_load_overtaken_by_a_write_is_not_cached(cache: Cache) -> None:
    def load() -> tuple[bytes, float]:
        cache.begin_write(["key"])
        cache.end_write(["key"])
        return b"read before the write", 60

    assert cache.get_or_load("key", load) == b"read before the write"
    assert cached(cache, "key") is NOTHING
    assert cache.counters.refused_fills == 1
    assert cache.get_or_load("key", value(b"new")) == b"new"


def test_during_a_write_readers_load_and_do_not_fill(cache: Cache) -> None:
    cache.get_or_load("key", value(b"old"))
    cache.begin_write(["key", "key", "second"])
    assert cached(cache, "key") is NOTHING
    assert cache.get_or_load("key", value(b"truth")) == b"truth"
    assert cache.get_or_load("key", value(None)) is None
    assert cache.redis.get("key") == cache.redis.get("second") == b"w"
    assert 29_000 < cache.redis.pttl("key") <= 30_000
    cache.end_write(["key", "second"])
    assert cache.redis.exists("key", "second") == 0


def test_the_end_of_one_write_removes_whatever_is_there(make_cache: MakeCache) -> None:
    one, other = make_cache(), make_cache()
    one.begin_write(["key"])
    other.begin_write(["key"])
    one.end_write(["key"])
    other.get_or_load("key", value(b"without the second write"))
    other.end_write(["key"])
    assert cached(one, "key") is NOTHING


def test_many_keys_are_one_round_trip_each_way(cache: Cache) -> None:
    def reads() -> int:
        return int(cache.redis.info("stats")["total_reads_processed"])

    names = [f"key{n}" for n in range(50)]
    before = reads()
    cache.begin_write(names)
    middle = reads()
    cache.end_write(names)
    after = reads()
    # One of each two is the INFO itself.
    assert (middle - before, after - middle) == (2, 2)


def test_a_key_that_is_not_ours_is_left_alone(cache: Cache) -> None:
    cache.redis.set("plain", b"some text")
    cache.redis.rpush("list", 1)
    for key in ("plain", "list"):
        assert cached(cache, key) is NOTHING
        assert cache.get_or_load(key, value(b"truth")) == b"truth"
    assert cache.redis.get("plain") == b"some text"


def test_a_full_server_serves_hits_and_keeps_writes_right(cache: Cache) -> None:
    cache.get_or_load("key", value(b"old"))
    cache.redis.config_set("maxmemory-policy", "noeviction")
    cache.redis.config_set("maxmemory", 1)
    assert cache.get_or_load("key", never) == b"old"
    assert cache.get_or_load("other", value(b"v")) == b"v"
    cache.begin_write(["key"])
    assert cache.redis.exists("key") == 0, "no marker fits, so what is cached goes"
    cache.end_write(["key"])
    assert cache.get_or_load("key", value(b"new")) == b"new"
    assert cache.health().breaker == "closed"


def test_a_server_that_forgot_the_scripts_is_taught_them_again(cache: Cache) -> None:
    cache.get_or_load("key", value(b"v"))
    cache.redis.script_flush()
    cache.redis.flushall()
    assert cache.get_or_load("key", value(b"v")) == b"v"
    assert cache.get_or_load("key", never) == b"v"
    assert cache.counters.refusals == cache.counters.failures == 0


def _run(work: Callable[[], None], count: int) -> None:
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
