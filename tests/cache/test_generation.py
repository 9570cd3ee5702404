"""A Redis that comes back with old contents: what it holds is no hit from the first call on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from rootstream_store.cache import Cache
from rootstream_store.cache._generation import NO_STAMP

from .conftest import OwnValkey, until

MakeCache = Callable[..., Cache]


def value(payload: bytes) -> Callable[[], tuple[bytes | None, float]]:
    return lambda: (payload, 60)


def command(cache: Cache, *words: str) -> None:
    run: Callable[..., object] = cache.redis.execute_command
    run(*words)


def written(cache: Cache) -> None:
    """A write of the key, acknowledged."""
    cache.begin_write(["key"])
    cache.end_write(["key"])


def test_an_old_dump(make_cache: MakeCache, own_valkey: OwnValkey) -> None:
    cache, other = make_cache(), make_cache()
    for each in (cache, other):
        assert each.get_or_load("key", value(b"old")) == b"old"
    cache.redis.save()
    written(cache)
    own_valkey.kill()
    own_valkey.start()
    raw: bytes = cache.redis.get("key")  # type: ignore[assignment]  # redis-py knows no decode_responses
    assert raw.endswith(b"old"), "the dump holds what was removed since"
    for each in (cache, other, make_cache()):
        assert each.get_or_load("key", value(b"new")) == b"new"
    hits = cache.counters.hits + other.counters.hits
    for each in (cache, other):
        assert each.get_or_load("key", value(b"newer")) == b"new"
    assert cache.counters.hits + other.counters.hits == hits + 2


def test_a_dump_with_a_negative_answer(make_cache: MakeCache, own_valkey: OwnValkey) -> None:
    cache = make_cache()
    assert cache.get_or_load("key", lambda: (None, 60)) is None
    cache.redis.save()
    written(cache)
    own_valkey.kill()
    own_valkey.start()
    assert cache.get_or_load("key", value(b"made meanwhile")) == b"made meanwhile"


def test_a_replica_that_lacks_the_last_writes(make_cache: MakeCache, own_valkey: OwnValkey) -> None:
    with TemporaryDirectory(prefix="rsv-") as directory:
        replica = OwnValkey(Path(directory))
        try:
            own_valkey.kill()
            own_valkey.start("--port", "0")
            cache = make_cache()
            cache.get_or_load("key", value(b"old"))
            cache.redis.save()
            (own_valkey.directory / "dump.rdb").rename(replica.directory / "dump.rdb")
            replica.start()
            written(cache)
            own_valkey.kill()
            # It takes the other one's place, under the same address.
            replica.socket.rename(own_valkey.socket)
            assert cache.get_or_load("key", value(b"new")) == b"new"
        finally:
            replica.kill()


def test_a_history_that_branched_while_connections_stay(cache: Cache, own_valkey: OwnValkey) -> None:
    """A server that was a replica for a while and is promoted again is the same process: only its replication
    history tells, and the look that the sweep takes."""
    cache.get_or_load("key", value(b"old"))
    before = cache._lease.generation.stamp
    command(cache, "REPLICAOF", "127.0.0.1", "1")
    command(cache, "REPLICAOF", "NO", "ONE")
    cache.recheck()
    assert cache._lease.generation.stamp != before
    assert cache.get_or_load("key", value(b"new")) == b"new"


def test_what_was_loaded_for_the_server_before_is_no_hit_on_the_next(
    cache: Cache, own_valkey: OwnValkey
) -> None:
    """A load that was under way through a restart: its lease is in the dump, so that it is filled, but a
    write meanwhile went to the server before."""

    def load() -> tuple[bytes, float]:
        cache.redis.save()
        written(cache)
        own_valkey.kill()
        own_valkey.start()
        assert cache.redis.exists("key") == 1
        return b"read before the write", 60

    assert cache.get_or_load("key", load) == b"read before the write"
    assert cache.get_or_load("key", value(b"new")) == b"new"


def test_a_restart_that_lost_nothing_but_the_key_is_filled_again(cache: Cache, own_valkey: OwnValkey) -> None:
    cache.get_or_load("key", value(b"v"))
    own_valkey.kill()
    own_valkey.start()
    assert cache.get_or_load("key", value(b"w")) == b"w"
    assert cache.get_or_load("key", value(b"x")) == b"w"
    assert cache.counters.failures == 0, "a restart is not seen as an error"


def test_a_server_that_does_not_tell_is_used_all_the_same(
    make_cache: MakeCache, own_valkey: OwnValkey, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "rootstream_store.cache")
    command(make_cache(), "ACL", "SETUSER", "app", "on", ">pw", "~*", "&*", "+@all", "-info")
    cache = make_cache(redis_url=f"{own_valkey.url}?username=app&password=pw")
    for _ in range(3):
        assert cache.get_or_load("key", value(b"v")) == b"v"
    assert cache.counters.hits == 2
    assert cache._lease.generation.stamp == NO_STAMP
    cache.recheck()
    assert caplog.text.count("does not tell its run_id") == 1


def test_it_is_asked_once_a_connection(cache: Cache) -> None:
    cache.get_or_load("key", value(b"v"))

    def asked() -> int:
        return int(cache.redis.info("commandstats")["cmdstat_info"]["calls"])

    before = asked()
    for _ in range(100):
        cache.get_or_load("key", value(b"v"))
    assert asked() == before + 1, "the question itself"


def test_a_frozen_server_is_given_up_in_time(cache: Cache, own_valkey: OwnValkey) -> None:
    own_valkey.freeze()
    cache.recheck()
    assert cache._lease.generation.stamp is None
    own_valkey.thaw()
    until(lambda: cache.get_or_load("key", value(b"v")) and cache.counters.hits, "the cache to be used")
