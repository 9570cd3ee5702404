"""The near-cache on real servers: what changes in Redis is forgotten here, and nothing is served unheard."""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn, cast

import pytest

from rootstream_store.cache import MISSING, Cache, NearCache, SetValue
from rootstream_store.cache._tracking import LEASE
from rootstream_store.cache.client import pool_of
from rootstream_store.cache.near import NearCounters

from .conftest import OwnValkey, until

MakeCache = Callable[..., Cache]


def never() -> NoReturn:
    raise AssertionError("loaded although it was cached")


def value(payload: bytes | None, ttl: float = 600) -> Callable[[], tuple[bytes | None, float]]:
    return lambda: (payload, ttl)


def near_of(cache: Cache) -> NearCache:
    assert cache.near is not None
    return cache.near


def read(
    cache: Cache, key: str, load: Callable[[], tuple[bytes | None, float]] = never, life: float = 600
) -> bytes | None:
    """As Store.cached reads, without a record to be decoded."""
    near = near_of(cache)
    kept: Any = near.get(key)
    if kept is not MISSING:
        return cast("bytes | None", kept)
    ticket = near.ticket(key)
    found, is_hit = cache.fetch(key, load)
    if ticket is not None and is_hit:
        near.put(ticket, key, found, size=len(found or b""), life=life)
    return found


def is_near(cache: Cache, key: str) -> bool:
    return near_of(cache).get(key) is not MISSING


def warm(cache: Cache, key: str, payload: bytes | None = b"value") -> None:
    """Have the answer in Redis and in the near-cache."""

    def kept() -> bool:
        assert read(cache, key, value(payload)) == payload
        return is_near(cache, key)

    until(kept, "the answer to be kept")


@pytest.fixture
def near_cache(make_cache: MakeCache) -> Cache:
    return make_cache(near_cache_entries=100)


def test_an_answer_is_served_without_redis(near_cache: Cache) -> None:
    def commands() -> int:
        return int(near_cache.redis.info("commandstats")["cmdstat_get"]["calls"])

    warm(near_cache, "user:1")
    warm(near_cache, "user:2", None)
    before = commands()
    for _ in range(10):
        assert read(near_cache, "user:1") == b"value"
        assert read(near_cache, "user:2") is None
    assert commands() == before
    counters = near_cache.counters
    assert counters.near.hits >= 20
    assert counters.near.entries == 2
    assert counters.near.bytes > 0
    health = near_cache.health().near
    assert (health.state, health.error) == ("on", None)


def test_it_is_off_unless_asked_for(cache: Cache, make_cache: MakeCache) -> None:
    assert cache.near is None
    assert make_cache(near_cache_entries=10, near_cache_bytes=0).near is None
    assert cache.health().near.state == "off"
    assert cache.counters.near == NearCounters()


def test_sessions_are_kept_only_where_told(make_cache: MakeCache) -> None:
    key = "session:" + "0" * 64
    without, with_them = (
        make_cache(near_cache_entries=10),
        make_cache(near_cache_entries=10, near_cache_sessions=True),
    )
    warm(with_them, key)
    warm(without, "user:1")
    for _ in range(3):
        assert read(without, key) == b"value"
    assert not is_near(without, key)


@pytest.mark.parametrize(
    "change",
    [
        ["DEL", "user:1"],
        ["UNLINK", "user:1"],
        ["SET", "user:1", "other"],
        ["APPEND", "user:1", "x"],
        ["RENAME", "user:1", "user:2"],
        ["COPY", "user:9", "user:1", "REPLACE"],
        ["PEXPIRE", "user:1", "1"],
        ["FLUSHALL"],
        ["FLUSHDB", "ASYNC"],
        ["EVAL", "return redis.call('DEL', 'user:1')", "0"],
        ["MSET", "user:7", "x", "user:1", "x"],
    ],
    ids=lambda change: change[0],
)
def test_whoever_changes_the_key_it_is_forgotten(near_cache: Cache, change: list[str]) -> None:
    near_cache.redis.set("user:9", "x")
    warm(near_cache, "user:1")
    near_cache.redis.execute_command(*change)  # type: ignore[no-untyped-call]  # redis-py has no types here
    until(lambda: not is_near(near_cache, "user:1"), "it to be forgotten")
    assert near_cache.health().near.state == "on"


def test_it_is_forgotten_when_redis_evicts_it(near_cache: Cache) -> None:
    names = [f"user:{n}" for n in range(50)]
    for name in names:
        warm(near_cache, name)
    near_cache.redis.config_set("maxmemory-policy", "allkeys-random")
    near_cache.redis.config_set("maxmemory", 1)
    until(lambda: near_cache.redis.dbsize() == 0, "Redis to be emptied")
    until(lambda: not any(is_near(near_cache, name) for name in names), "all to be forgotten")


def test_a_write_of_another_process_is_seen_before_its_commit(
    near_cache: Cache, make_cache: MakeCache
) -> None:
    other = make_cache()
    warm(near_cache, "user:1")
    other.begin_write(["user:1"])
    until(lambda: not is_near(near_cache, "user:1"), "it to be forgotten")
    assert read(near_cache, "user:1", value(b"before the commit")) == b"before the commit"
    assert not is_near(near_cache, "user:1")
    other.end_write(["user:1"])
    warm(near_cache, "user:1", b"after")


def test_its_own_writes_are_seen_at_once_whatever_redis_does(
    near_cache: Cache, own_valkey: OwnValkey
) -> None:
    for key in ("user:1", "user:2", "user:3"):
        warm(near_cache, key)
    own_valkey.freeze()
    near_cache.begin_write(["user:1"])
    assert not is_near(near_cache, "user:1")
    near_cache.end_write(["user:2"])
    assert not is_near(near_cache, "user:2")
    near_cache.run([SetValue("user:3", "x", ttl=None)])
    assert not is_near(near_cache, "user:3")


@pytest.mark.parametrize("command", [("DEL", "user:1"), ("FLUSHALL",)], ids=["one key", "all"])
def test_an_answer_overtaken_by_a_change_is_not_kept(near_cache: Cache, command: tuple[str, ...]) -> None:
    near = near_of(near_cache)
    warm(near_cache, "user:1")
    ticket = near.ticket("user:1")
    assert ticket is not None
    near_cache.redis.execute_command(*command)  # type: ignore[no-untyped-call]  # as above
    until(lambda: not is_near(near_cache, "user:1"), "the news")
    near.put(ticket, "user:1", b"old", size=3, life=60)
    assert not is_near(near_cache, "user:1")
    assert near_cache.counters.near.refused == 1


def test_everything_is_dropped_with_the_connection(near_cache: Cache, own_valkey: OwnValkey) -> None:
    warm(near_cache, "user:1")
    own_valkey.kill()
    until(lambda: near_cache.counters.near.entries == 0, "all to be dropped")
    assert read(near_cache, "user:1", value(b"truth")) == b"truth"
    assert not is_near(near_cache, "user:1")
    until(lambda: near_cache.health().near.state == "connecting", "the loss to be told")
    assert near_cache.health().near.error is not None
    own_valkey.start()
    warm(near_cache, "user:1", b"new")
    assert near_cache.counters.near.dropped >= 1  # once more when another life of the server is noticed


def test_a_connection_cut_by_the_server_is_opened_again(near_cache: Cache) -> None:
    warm(near_cache, "user:1")
    listening = [c for c in near_cache.redis.client_list() if "B" in c["flags"]]
    assert len(listening) == 1
    near_cache.redis.client_kill_filter(_id=listening[0]["id"])
    until(lambda: near_cache.counters.near.dropped == 1, "all to be dropped")
    warm(near_cache, "user:1")


def test_an_address_that_moves_to_another_server_while_the_old_one_answers(
    near_cache: Cache, own_valkey: OwnValkey
) -> None:
    """Answers come from the new one then, and so must the news of changes."""
    warm(near_cache, "user:1")
    with TemporaryDirectory(prefix="rsv-") as directory:
        other = OwnValkey(Path(directory))
        try:
            other.start()
            other.socket.rename(own_valkey.socket)
            pool_of(near_cache.redis).close_idle()
            near_cache.recheck()
            assert not is_near(near_cache, "user:1")
            warm(near_cache, "user:1", b"new")
            near_cache.redis.unlink("user:1")
            until(lambda: not is_near(near_cache, "user:1"), "the change on the new server to be told")
        finally:
            other.kill()


def test_a_frozen_server_keeps_nothing_alive(near_cache: Cache, own_valkey: OwnValkey) -> None:
    warm(near_cache, "user:1")
    own_valkey.freeze()
    frozen_at = time.monotonic()
    while is_near(near_cache, "user:1"):
        time.sleep(0.001)
        assert time.monotonic() - frozen_at < LEASE + 0.5
    until(lambda: near_cache.health().near.state == "connecting", "the loss to be told")
    own_valkey.thaw()
    until(lambda: near_cache.health().breaker == "closed", "Redis to be back")
    near_cache.redis.delete("user:1")
    warm(near_cache, "user:1", b"new")


def test_a_server_that_refuses_to_track_is_done_without(
    near_cache: Cache, own_valkey: OwnValkey, caplog: pytest.LogCaptureFixture
) -> None:
    near_cache.redis.execute_command("ACL", "SETUSER", "default", "-client|tracking")  # type: ignore[no-untyped-call]  # as above
    for _ in range(5):
        assert read(near_cache, "user:1", value(b"v")) == b"v"
    until(lambda: near_cache.health().near.state == "refused", "the refusal to be told")
    assert "NoPermission" in str(near_cache.health().near.error)
    assert read(near_cache, "user:1") == b"v", "Redis itself goes on"
    assert not is_near(near_cache, "user:1")
    assert [record.message for record in caplog.records if "no near-cache" in record.message]


def test_two_caches_of_one_process_have_each_their_own(make_cache: MakeCache) -> None:
    one, other = make_cache(near_cache_entries=10), make_cache(near_cache_entries=10)
    warm(one, "user:1")
    assert not is_near(other, "user:1")
    warm(other, "user:1")
    one.begin_write(["user:1"])
    one.end_write(["user:1"])
    assert not is_near(one, "user:1")
    until(lambda: not is_near(other, "user:1"), "the other to hear of it")


# Python 3.12 warns of fork wherever a thread runs, as under xdist; here the child only uses the cache.
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_begins_with_nothing(near_cache: Cache) -> None:
    warm(near_cache, "user:1")
    child = os.fork()
    if child == 0:  # pragma: no cover - coverage ends with the child
        status = 1
        try:
            if not is_near(near_cache, "user:1") and near_cache.counters.near.entries == 0:
                warm(near_cache, "user:1")
                near_cache.redis.delete("user:1")
                until(lambda: not is_near(near_cache, "user:1"), "the child to hear of it")
                near_cache.close()
                status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert status == 0
    assert near_cache.health().near.state == "on"
    warm(near_cache, "user:1")
    assert near_cache.counters.near.dropped == 0, "the child took nothing from its parent"


def test_close_ends_it(make_cache: MakeCache, own_valkey: OwnValkey) -> None:
    observer = make_cache()
    cache = make_cache(near_cache_entries=10)
    warm(cache, "user:1")
    threads = threading.active_count()
    started = time.monotonic()
    cache.close()
    assert time.monotonic() - started < 1
    assert threading.active_count() == threads - 1
    assert not is_near(cache, "user:1")
    read(cache, "user:1", value(b"v"))
    assert threading.active_count() == threads - 1, "and it does not begin again"
    until(lambda: len(observer.redis.client_list()) == 1, "its connections to be gone")


def test_close_is_quick_when_the_server_is_frozen(make_cache: MakeCache, own_valkey: OwnValkey) -> None:
    cache = make_cache(near_cache_entries=10)
    warm(cache, "user:1")
    own_valkey.freeze()
    started = time.monotonic()
    cache.close()
    assert time.monotonic() - started < 2


def test_how_long_others_take_to_hear_of_a_change(
    near_cache: Cache, make_cache: MakeCache, record_property: Callable[[str, object], None]
) -> None:
    """Measured and told, not judged: a busy machine has its own pace. See `make bench-cache`."""
    writer = make_cache()
    lags = []
    for _ in range(100):
        warm(near_cache, "user:1")
        started = time.perf_counter()
        writer.begin_write(["user:1"])
        while is_near(near_cache, "user:1"):
            time.sleep(0)
        lags.append((time.perf_counter() - started) * 1e3)
        writer.end_write(["user:1"])
    record_property("lag_ms_p50", statistics.median(lags))
    record_property("lag_ms_p99", statistics.quantiles(lags, n=100)[98])
    assert len(lags) == 100
