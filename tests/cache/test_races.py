"""Writers and readers racing on few keys. One harness judges the lease cache and, to prove that it can, a
naive one."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis

from rootstream_store.cache import MISSING, Cache
from rootstream_store.cache._tracking import LEASE

from .conftest import OwnValkey

KEYS = ["user:1", "user:2", "stream:1:live"]
WRITERS, READERS = 4, 8


@dataclass
class Truth:
    """Versions that only grow: what a database would hold, and what its writers were told to be done."""

    committed: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KEYS, 0))
    acknowledged: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KEYS, 0))
    times: dict[tuple[str, int], float] = field(default_factory=dict)
    """When each version was acknowledged."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def commit(self, key: str) -> int:
        with self.lock:
            self.committed[key] += 1
            return self.committed[key]

    def acknowledge(self, key: str, version: int) -> None:
        with self.lock:
            self.acknowledged[key] = max(self.acknowledged[key], version)
            self.times[key, version] = time.monotonic()


class Leased:
    def __init__(self, cache: Cache) -> None:
        self.cache = cache

    def write(self, key: str, commit: Callable[[], int]) -> int:
        self.cache.begin_write([key])
        version = commit()
        self.cache.end_write([key])
        return version

    def read(self, key: str, load: Callable[[], int]) -> int:
        found = self.cache.get_or_load(key, lambda: (b"%d" % load(), 60))
        assert found is not None
        return int(found)


class Near(Leased):
    """The same with the near-cache in front, used as Store.cached uses it."""

    def read(self, key: str, load: Callable[[], int]) -> int:
        near = self.cache.near
        assert near is not None
        kept: Any = near.get(key)
        if kept is not MISSING:
            return int(kept)
        ticket = near.ticket(key)
        found, is_hit = self.cache.fetch(key, lambda: (b"%d" % load(), 60))
        assert found is not None
        version = int(found)
        if ticket is not None and is_hit:
            near.put(ticket, key, version, size=len(found), life=60)
        return version


class Naive:
    """Cache-aside as usually written: remove after the commit, fill after a miss."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client

    def write(self, key: str, commit: Callable[[], int]) -> int:
        version = commit()
        self.client.delete(key)
        return version

    def read(self, key: str, load: Callable[[], int]) -> int:
        found = self.client.get(key)
        if isinstance(found, bytes):
            return int(found)
        version = load()
        self.client.set(key, version, ex=60)
        return version


@dataclass
class Outcome:
    reads: int = 0
    writes: int = 0
    loads: int = 0
    stale: int = 0
    lags: list[float] = field(default_factory=list)
    """Of each stale read, the seconds since a newer version was acknowledged."""
    errors: list[BaseException] = field(default_factory=list)


def race(makers: list[Callable[[], Leased | Naive]], seconds: float) -> Outcome:
    """Each thread uses one of the makers' caches, as if in a process of its own; counts reads of an older
    version than one acknowledged before the read began."""
    truth, outcome = Truth(), Outcome()
    caches = [make() for make in makers]
    stop = time.monotonic() + seconds
    counting = threading.Lock()

    def guarded(work: Callable[[Leased | Naive, random.Random], None], seed: int) -> None:
        chance, cache = random.Random(seed), caches[seed % len(caches)]
        try:
            while time.monotonic() < stop:
                work(cache, chance)
        except BaseException as error:  # noqa: BLE001  # a thread's failure must fail the test, not vanish
            outcome.errors.append(error)

    def write(cache: Leased | Naive, chance: random.Random) -> None:
        key = chance.choice(KEYS)

        def commit() -> int:
            time.sleep(chance.random() * 0.002)
            version = truth.commit(key)
            time.sleep(chance.random() * 0.001)
            return version

        truth.acknowledge(key, cache.write(key, commit))
        with counting:
            outcome.writes += 1
        time.sleep(chance.random() * 0.01)

    def read(cache: Leased | Naive, chance: random.Random) -> None:
        key = chance.choice(KEYS)

        def load() -> int:
            version = truth.committed[key]
            time.sleep(chance.random() * 0.003)
            with counting:
                outcome.loads += 1
            return version

        floor, began = truth.acknowledged[key], time.monotonic()
        version = cache.read(key, load)
        with counting:
            outcome.reads += 1
            outcome.stale += version < floor
        if version < floor:
            later = [truth.times[key, n] for n in range(version + 1, floor + 1) if (key, n) in truth.times]
            outcome.lags.append(began - min(later))

    threads = [threading.Thread(target=guarded, args=(write, n)) for n in range(WRITERS)]
    threads += [threading.Thread(target=guarded, args=(read, n)) for n in range(READERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds + 20)
        assert not thread.is_alive()
    return outcome


def test_no_read_is_older_than_an_acknowledged_write(make_cache: Callable[..., Cache]) -> None:
    outcome = race([lambda: Leased(make_cache(redis_timeout=2.0))] * 3, 3)
    assert outcome.errors == []
    assert outcome.stale == 0, outcome
    assert outcome.reads > 300, outcome
    assert outcome.writes > 50, outcome
    assert outcome.loads < outcome.reads, "nothing was ever served from the cache"


def test_with_a_near_cache_no_read_is_older_than_a_write_of_its_own_process(
    make_cache: Callable[..., Cache],
) -> None:
    cache = make_cache(redis_timeout=2.0, near_cache_entries=100)
    outcome = race([lambda: Near(cache)], 3)
    assert outcome.errors == []
    assert outcome.stale == 0, outcome
    assert outcome.writes > 50, outcome
    assert cache.counters.near.hits > outcome.reads / 4, cache.counters


def test_with_near_caches_no_read_is_older_than_what_another_process_wrote_a_second_ago(
    make_cache: Callable[..., Cache], record_property: Callable[[str, object], None]
) -> None:
    caches = [make_cache(redis_timeout=2.0, near_cache_entries=100) for _ in range(3)]
    left = iter(caches)
    outcome = race([lambda: Near(next(left))] * 3, 3)
    assert outcome.errors == []
    assert max(outcome.lags, default=0.0) < LEASE, outcome
    assert outcome.writes > 50, outcome
    assert sum(cache.counters.near.hits for cache in caches) > outcome.reads / 4
    # How late is a matter of the machine: told, not judged.
    record_property("stale_reads", f"{outcome.stale} of {outcome.reads}")
    late = sorted(outcome.lags)
    record_property("lag_ms_p99", 1e3 * late[-1 - len(late) // 100] if late else 0)


def test_the_same_harness_catches_naive_cache_aside(cache: Cache) -> None:
    outcome = race([lambda: Naive(cache.redis)], 3)
    assert outcome.errors == []
    assert outcome.stale > 0, outcome


@pytest.mark.parametrize("kind", [Leased, Near])
def test_no_stale_read_while_redis_is_killed_and_started_again(
    make_cache: Callable[..., Cache], own_valkey: OwnValkey, kind: type[Leased]
) -> None:
    """One process, so that its own memory of what it could not remove is what keeps it right."""
    ended = threading.Event()

    def disturb() -> None:
        while not ended.wait(0.4):
            own_valkey.kill()
            own_valkey.start()
            if ended.wait(0.3):
                return
            own_valkey.freeze()
            ended.wait(0.4)
            own_valkey.thaw()

    disturber = threading.Thread(target=disturb)
    disturber.start()
    try:
        outcome = race([lambda: kind(make_cache(near_cache_entries=100))], 4)
    finally:
        ended.set()
        disturber.join(20)
    assert outcome.errors == []
    assert outcome.stale == 0, outcome
    assert outcome.writes > 50, outcome
    assert outcome.loads < outcome.reads, "nothing was ever served from the cache"
