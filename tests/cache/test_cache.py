from __future__ import annotations

import gc
import logging
import os
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from rootstream_store.cache import Cache, CacheCounters, Invalidate, Publish, SetValue
from rootstream_store.errors import SettingsError, StoreClosed
from rootstream_store.settings import Settings

from .conftest import OwnValkey, cached

MakeCache = Callable[..., Cache]
Until = Callable[..., None]

LONGEST = 0.6
"""Seconds that any call of the store may wait for Redis."""


def never() -> NoReturn:
    raise AssertionError("loaded although it was cached")


def value(payload: bytes | None) -> Callable[[], tuple[bytes | None, float]]:
    return lambda: (payload, 60)


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


@pytest.fixture
def without_redis() -> Cache:
    return Cache(Settings(database_url="postgresql:///none"))


def test_without_redis_everything_is_answered(without_redis: Cache) -> None:
    assert not without_redis.enabled
    assert without_redis.get_or_load("key", value(b"v")) == b"v"
    without_redis.begin_write(["key"])
    without_redis.end_write(["key"])
    without_redis.run([Invalidate("key"), Publish("a", "b"), SetValue("k", 1, 1)])
    health = without_redis.health()
    assert (health.enabled, health.reachable) == (False, False)
    assert health.counters == CacheCounters()
    with pytest.raises(SettingsError, match="redis_url"):
        _ = without_redis.redis
    with pytest.raises(SettingsError, match="redis_url"):
        without_redis.subscribe("news")
    without_redis.close()


def test_health_tells_what_the_server_is(cache: Cache) -> None:
    cache.get_or_load("key", value(b"v"))
    health = cache.health()
    assert health.enabled
    assert health.reachable
    assert health.latency_ms is not None
    assert 0 < health.latency_ms < 1000
    assert health.used_memory is not None
    assert health.used_memory > 100_000
    assert health.server_name == "valkey"
    assert health.server_version is not None
    assert health.server_version.startswith("9.")
    assert health.breaker == "closed"
    assert health.error is None
    assert health.counters.fills == 1


def test_health_of_a_frozen_server_is_told_in_time_without_secrets(
    make_cache: MakeCache, own_valkey: OwnValkey
) -> None:
    cache = make_cache(redis_url=f"{own_valkey.url}?password=s3cret")
    own_valkey.freeze()
    started = time.monotonic()
    health = cache.health()
    assert time.monotonic() - started < LONGEST
    assert not health.reachable
    assert health.latency_ms is None
    assert health.error is not None
    assert "s3cret" not in repr(health)


def test_a_wrong_password_is_an_outage_for_the_cache_and_named_in_health(
    make_cache: MakeCache, own_valkey: OwnValkey
) -> None:
    make_cache().redis.config_set("requirepass", "right")
    cache = make_cache(redis_url=f"{own_valkey.url}?password=wr0ng")
    assert cache.get_or_load("key", value(b"v")) == b"v"
    health = cache.health()
    assert not health.reachable
    assert health.error is not None
    assert "AuthenticationError" in health.error
    assert "wr0ng" not in repr(health)


@pytest.mark.parametrize("warm", [True, False])
@pytest.mark.parametrize(
    "call",
    [
        lambda cache: cache.get_or_load("key", lambda: (b"v", 60)),
        lambda cache: cache.begin_write(["key"]),
        lambda cache: cache.end_write(["key"]),
        lambda cache: cache.run([Publish("a", "b"), SetValue("k", 1, 1)]),
        lambda cache: cache.health(),
    ],
    ids=["get_or_load", "begin_write", "end_write", "run", "health"],
)
def test_no_call_waits_long_for_a_frozen_server(
    make_cache: MakeCache,
    own_valkey: OwnValkey,
    call: Callable[[Cache], object],
    warm: bool,
    request: pytest.FixtureRequest,
) -> None:
    cache = make_cache(redis_retry_after=60)
    if warm:
        cache.redis.ping()
    own_valkey.freeze()
    assert timed(lambda: call(cache)) < LONGEST
    if request.node.callspec.id.startswith(("end_write", "health")):
        assert timed(lambda: call(cache)) < LONGEST
        return
    # From now on nobody waits at all, but for those two, who ask although the breaker is open.
    assert min(timed(lambda: call(cache)) for _ in range(100)) < 0.001


def test_a_whole_write_does_not_wait_long_for_a_frozen_server(cache: Cache, own_valkey: OwnValkey) -> None:
    cache.redis.ping()
    own_valkey.freeze()
    started = time.monotonic()
    cache.begin_write(["key"])
    cache.end_write(["key"])
    cache.run([Publish("a", "b")])
    assert time.monotonic() - started < LONGEST


def test_a_server_that_freezes_during_the_load_does_not_hold_up_the_answer(
    cache: Cache, own_valkey: OwnValkey
) -> None:
    def load() -> tuple[bytes, float]:
        own_valkey.freeze()
        return b"v", 60

    assert timed(lambda: cache.get_or_load("key", load)) < LONGEST


def test_many_threads_on_a_small_pool_and_a_frozen_server(
    make_cache: MakeCache, own_valkey: OwnValkey
) -> None:
    cache = make_cache(redis_pool_size=4)
    cache.redis.ping()
    own_valkey.freeze()
    times: list[float] = []
    together = threading.Barrier(32)

    def read(number: int) -> None:
        together.wait(5)
        times.append(timed(lambda: cache.get_or_load(f"key{number}", value(b"v"))))

    threads = [threading.Thread(target=read, args=(n,)) for n in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(times) == 32
    # The machine itself is given a little: 32 threads wake at once.
    assert max(times) < LONGEST + 0.15


def test_a_server_killed_and_started_empty_is_used_again(
    cache: Cache, own_valkey: OwnValkey, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "rootstream_store.cache")
    cache.get_or_load("key", value(b"v"))
    own_valkey.kill()
    for _ in range(10):
        assert cache.get_or_load("key", value(b"from the database")) == b"from the database"
    assert cache.counters.opened == 1
    own_valkey.start()
    until(
        lambda: cache.get_or_load("key", value(b"new")) and cached(cache, "key") == b"new",
        "the cache to be used",
    )
    assert cache.health().breaker == "closed"
    assert len(caplog.records) == 2, "one line for the outage, one for its end"


def test_a_write_during_an_outage_leaves_no_stale_hit(
    make_cache: MakeCache, own_valkey: OwnValkey, until: Until
) -> None:
    # So long a pause that only a reader can be the one that makes up for the removal.
    cache, observer = make_cache(redis_retry_after=0.3), make_cache()
    cache._lease._pending._retry_after = 60
    cache.get_or_load("key", value(b"old"))
    own_valkey.freeze()
    cache.begin_write(["key"])
    cache.end_write(["key"])
    assert cache.health().pending_invalidations == 1
    own_valkey.thaw()
    assert observer.redis.get("key") is not None
    until(
        lambda: cache.get_or_load("key", value(b"new")) == b"new" and cached(cache, "key") == b"new",
        "the new value",
    )
    assert cache.health().pending_invalidations == 0


def test_a_write_soon_after_a_timeout_is_seen_by_other_processes_at_once(
    make_cache: MakeCache, own_valkey: OwnValkey
) -> None:
    cache, other = make_cache(redis_retry_after=60), make_cache()
    other.get_or_load("key", value(b"old"))
    own_valkey.freeze()
    cache.get_or_load("else", value(b"v"))
    own_valkey.thaw()
    assert cache.health().breaker == "open"
    cache.begin_write(["key"])
    cache.end_write(["key"])
    assert other.get_or_load("key", value(b"new")) == b"new"
    assert cache.health().pending_invalidations == 0
    assert cache.health().breaker == "closed"


def test_of_many_writers_on_a_frozen_server_one_at_a_time_waits(
    make_cache: MakeCache, own_valkey: OwnValkey
) -> None:
    cache = make_cache(redis_retry_after=60)
    own_valkey.freeze()
    cache.get_or_load("else", value(b"v"))
    times: list[float] = []
    together = threading.Barrier(16)

    def write(number: int) -> None:
        together.wait(5)
        times.append(timed(lambda: cache.end_write([f"key{number}"])))

    threads = [threading.Thread(target=write, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(times) == 16
    assert max(times) < LONGEST
    assert sum(took > 0.2 for took in times) == 1
    assert cache.health().pending_invalidations == 16


def test_an_idle_process_makes_up_for_its_removals_by_itself(
    make_cache: MakeCache, own_valkey: OwnValkey, until: Until
) -> None:
    cache, other = make_cache(), make_cache()
    names = [f"key{n}" for n in range(2500)]
    for name in names:
        cache.redis.set(name, b"vold")
    own_valkey.freeze()
    cache.end_write(names)
    own_valkey.thaw()
    until(lambda: other.redis.dbsize() == 0, "the removals of the idle process")
    until(lambda: cache.health().pending_invalidations == 0, "it to know")


def test_an_outage_serves_the_truth_to_every_reader(cache: Cache, own_valkey: OwnValkey) -> None:
    cache.get_or_load("key", value(b"old"))
    own_valkey.kill()
    cache.begin_write(["key"])
    cache.end_write(["key"])
    assert cache.get_or_load("key", value(b"new")) == b"new"
    assert cache.get_or_load("key", value(b"newer")) == b"newer"


def test_close_may_be_called_while_others_work_and_leaves_no_connection(
    make_cache: MakeCache, own_valkey: OwnValkey
) -> None:
    observer = make_cache()
    observer.redis.ping()
    for _ in range(5):
        cache = make_cache()
        stop = threading.Event()
        errors: list[BaseException] = []

        def work(
            cache: Cache = cache, stop: threading.Event = stop, errors: list[BaseException] = errors
        ) -> None:
            chance = random.Random()
            try:
                while not stop.is_set():
                    key = f"key{chance.randrange(5)}"
                    cache.get_or_load(key, value(b"v"))
                    cache.begin_write([key])
                    cache.end_write([key])
                    cache.run([Publish("a", "b"), Invalidate(key)])
            except BaseException as error:  # noqa: BLE001  # a thread's failure must fail the test, not vanish
                errors.append(error)

        workers = [threading.Thread(target=work) for _ in range(8)]
        closers = [threading.Thread(target=cache.close) for _ in range(3)]
        for thread in workers:
            thread.start()
        while cache.counters.misses < 20:
            assert not errors
        for thread in closers:
            thread.start()
        for thread in closers:
            thread.join(5)
        stop.set()
        for thread in [*workers, *closers]:
            thread.join(5)
            assert not thread.is_alive()
        assert errors == []
        assert cache.counters.failures == 0, "close must not cut off calls that are under way"
    clients = [client["name"] for client in observer.redis.client_list()]
    assert len(clients) == 1, clients


def test_after_close_the_client_is_refused_and_a_late_commit_still_removes_its_keys(
    make_cache: MakeCache, own_valkey: OwnValkey
) -> None:
    cache, observer = make_cache(), make_cache()
    cache.get_or_load("key", value(b"old"))
    cache.close()
    cache.close()
    with pytest.raises(StoreClosed):
        _ = cache.redis
    cache.end_write(["key"])
    assert observer.redis.exists("key") == 0
    assert len(observer.redis.client_list()) == 1


def test_close_is_quick_when_the_server_is_frozen(cache: Cache, own_valkey: OwnValkey) -> None:
    subscription = cache.subscribe("news")
    own_valkey.freeze()
    cache.end_write(["key"])
    started = time.monotonic()
    cache.close()
    assert time.monotonic() - started < 2
    assert subscription.closed


def test_sockets_and_threads_are_given_back(own_valkey: OwnValkey, make_cache: MakeCache) -> None:
    make_cache().close()
    gc.collect()
    sockets, threads = _open_files(), threading.active_count()
    for _ in range(10):
        cache = make_cache()
        cache.get_or_load("key", value(b"v"))
        cache.subscribe("news").close()
        cache.close()
    assert _open_files() == sockets
    assert threading.active_count() == threads


# Python 3.12 warns of fork wherever a thread runs, as under xdist; here the child only uses the cache.
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_uses_connections_of_its_own(cache: Cache) -> None:
    cache.get_or_load("key", value(b"v"))
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if cache.get_or_load("key", never) == b"v" and cache.redis.incr("count") == 1:
                status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert status == 0
    assert cache.redis.get("count") == b"1"
    assert cache.get_or_load("key", never) == b"v"
