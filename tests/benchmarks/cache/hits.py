"""Answers from the cache beside a bare GET, and beside other caches where those are installed."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import redis

from rootstream_store import Store, sessions, streams, users
from rootstream_store.cache import MISSING, NearCache, Script
from rootstream_store.cache.wire import Wire

from .._harness import Call, measure
from .._suite import CALLS
from . import _rivals
from ._bench import Bench

__all__ = ["run"]

_GET = "redis-py GET"
_INCR = "redis-py INCR"
_ADD = Script("return redis.call('INCR', KEYS[1])")
_PAYLOAD = b"x" * 200

Reads = dict[str, Callable[[Store], object]]


def run(bench: Bench) -> None:
    """The tables, and the targets of a hit."""
    store = bench.store
    ann = users.create(store, username="ann", email="ann@example.org", password="correct horse")
    stream = streams.create(store, ann.id, name="bench")
    token = sessions.create(store, ann.id).token
    reads: Reads = {
        "sessions.validate": lambda db: sessions.validate(db, token),
        "streams.is_live": lambda db: streams.is_live(db, stream.id),
        "users.get": lambda db: users.get(db, ann.id),
    }
    bench.bare.set("bench", _PAYLOAD)
    _hits(bench, reads)
    _near_hits(bench, reads)
    _scripts(bench)
    _misses(bench)
    _others(bench)


def _hits(bench: Bench, reads: Reads) -> None:
    store = bench.store
    store._cache.get_or_load("bench:lease", lambda: (_PAYLOAD, 3600))
    with _held(bench.bare) as held:
        figures = bench.calls(
            "hits in Redis",
            {
                _GET: lambda: bench.bare.get("bench"),
                "GET, held connection": held,
                "the cache alone": lambda: store._cache.get_or_load("bench:lease", _never),
                **{name: _bound(read, store) for name, read in reads.items()},
            },
            _GET,
            rounds=30,
            calls=200,
        )
    for name in ("the cache alone", *reads):
        bench.target(f"{name} from Redis beside a bare GET", 1.15, figures[name]["ratio"])


def _near_hits(bench: Bench, reads: Reads) -> None:
    alone = NearCache(entries=10_000, size=10_000_000)
    alone.open(good_until=math.inf)
    ticket = alone.ticket("user:bench")
    assert ticket is not None
    alone.put(ticket, "user:bench", _PAYLOAD, size=len(_PAYLOAD), life=math.inf)
    urls = bench.servers.database_url, bench.servers.redis_url
    with Store.open(*urls, near_cache_entries=10_000, near_cache_sessions=True) as store:
        for read in reads.values():
            _warm(store, read)
        figures = bench.calls(
            "hits in the near-cache",
            {
                _GET: lambda: bench.bare.get("bench"),
                "the near-cache alone": lambda: alone.get("user:bench"),
                **{name: _bound(read, store) for name, read in reads.items()},
            },
            _GET,
            rounds=30,
            calls=200,
        )
        _lag(bench, store)
    bench.target("a hit in the near-cache alone", 1, figures["the near-cache alone"]["p50_us"], "µs")


def _lag(bench: Bench, store: Store) -> None:
    """How long a store serves an answer that another client has removed from Redis."""
    near = store._cache.near
    assert near is not None
    lags = []
    for _ in range(bench.rounds(400)):
        ticket = near.ticket("user:lag")
        assert ticket is not None
        near.put(ticket, "user:lag", _PAYLOAD, size=len(_PAYLOAD), life=60)
        bench.bare.set("user:lag", "x")
        acknowledged = time.perf_counter()
        while near.get("user:lag") is not MISSING:
            time.sleep(0)
        lags.append((time.perf_counter() - acknowledged) * 1e6)
    lags.sort()
    row = {"p50_us": lags[len(lags) // 2], "p99_us": lags[len(lags) * 99 // 100], "max_us": lags[-1]}
    columns = {"p50_us": ("p50 µs", ".0f"), "p99_us": ("p99 µs", ".0f"), "max_us": ("longest µs", ".0f")}
    bench.table(
        "until the near-cache knows of an acknowledged change", {"SET by another client": row}, columns
    )
    bench.target("a change is known to the near-cache, p99", 100, row["p99_us"] / 1000, "ms")


def _scripts(bench: Bench) -> None:
    wire = Wire(bench.store.redis)
    figures = bench.calls(
        "a script",
        {
            _INCR: lambda: bench.bare.incr("bench:n"),
            "command": lambda: wire.command("INCR", "bench:n"),
            "script": lambda: wire.script(_ADD, ["bench:n"], []),
        },
        _INCR,
        rounds=20,
        calls=200,
    )
    bench.target("a script beside redis-py's INCR", 1.15, figures["script"]["ratio"])


def _misses(bench: Bench) -> None:
    cache = bench.store._cache
    numbers = itertools.count()
    bench.calls(
        "a miss and its fill",
        {
            _GET: lambda: bench.bare.get("bench"),
            "redis-py GET and SET": lambda: (
                bench.bare.get(f"bench:{next(numbers)}"),
                bench.bare.set(f"bench:{next(numbers)}", _PAYLOAD, ex=60),
            ),
            "the cache alone": lambda: cache.get_or_load(f"bench:{next(numbers)}", lambda: (_PAYLOAD, 60)),
        },
        _GET,
        rounds=10,
        calls=100,
    )


def _others(bench: Bench) -> None:
    blocking = _rivals.blocking(bench.servers.redis_url, _PAYLOAD)
    if blocking:
        contenders: dict[str, Call] = {_GET: lambda: bench.bare.get("bench"), **blocking}
        bench.calls("hits of other caches", contenders, _GET, rounds=20, calls=200)
    with _rivals.in_coroutines(bench.bare, _PAYLOAD) as calls:
        if calls:
            figures = measure(
                calls,
                next(iter(calls)),
                bench.rounds(20),
                5,
                per_call=_rivals.PER_CALL,
                seconds=bench.seconds,
            )
            bench.table("hits of other caches, in coroutines", figures, CALLS)


@contextmanager
def _held(client: redis.Redis) -> Iterator[Call]:
    pool: Any = client.connection_pool
    connection = pool.get_connection()

    def get() -> object:
        connection.send_command("GET", "bench")
        return connection.read_response()

    try:
        yield get
    finally:
        pool.release(connection)


def _bound(read: Callable[[Store], object], store: Store) -> Call:
    return lambda: read(store)


def _warm(store: Store, read: Callable[[Store], object]) -> None:
    """Read until the answer comes from the near-cache, for 5 s."""
    end = time.monotonic() + 5
    while time.monotonic() < end:
        before = store._cache.counters.near.hits
        read(store)
        if store._cache.counters.near.hits > before:
            return
        time.sleep(0.01)


def _never() -> NoReturn:
    raise AssertionError("loaded although it was cached")
