"""Counting viewers beside one INCR, and flushing a thousand streams."""

from __future__ import annotations

import itertools
import statistics
import time

from rootstream_store import streams, users, viewers

from ._bench import Bench

__all__ = ["run"]

_INCR = "redis-py INCR"
_STREAMS = 1000


def run(bench: Bench) -> None:
    """The tables, and the target of a join."""
    store = bench.store
    ben = users.create(store, username="ben", email="ben@example.org", password="correct horse")
    on_air = []
    with store.transaction() as tx:
        for number in range(_STREAMS):
            stream = streams.create(tx, ben.id, name=f"bench {number}")
            streams.start(tx, stream.id)
            on_air.append(stream.id)
    watched = on_air[0]
    new = itertools.count()
    viewers.join(store, watched, "there")
    raw = store.redis

    def leave() -> object:
        return viewers.leave(store, watched, next(gone))

    def fill() -> None:
        for viewer in range(20_000):
            viewers.join(store, watched, f"gone {viewer}", expiry=300)

    fill()
    gone = (f"gone {number % 20_000}" for number in itertools.count())
    figures = bench.calls(
        "one viewer of a stream that 20,000 watch",
        {
            _INCR: lambda: bench.bare.incr("bench:number"),
            "INCR, the store's client": lambda: raw.incr("bench:number"),
            "viewers.join, a new one": lambda: viewers.join(store, watched, next(new), expiry=300),
            "viewers.join, there already": lambda: viewers.join(store, watched, "there"),
            "viewers.heartbeat": lambda: viewers.heartbeat(store, watched, "there"),
            "viewers.leave": leave,
            "viewers.get": lambda: viewers.get(store, watched),
        },
        _INCR,
        rounds=30,
        calls=200,
    )
    bench.target("viewers.join beside one INCR", 1.3, figures["viewers.join, a new one"]["ratio"])

    rounds = bench.rounds(8)
    changed: list[float] = []
    unchanged: list[float] = []
    page: list[float] = []
    for number in range(rounds):
        for stream_id in on_air:
            viewers.join(store, stream_id, f"round {number}")
        for times in (changed, unchanged):
            start = time.perf_counter()
            viewers.flush(store)
            times.append(time.perf_counter() - start)
        start = time.perf_counter()
        viewers.top(store, limit=100)
        page.append(time.perf_counter() - start)
    bench.table(
        f"flush of {_STREAMS:,} streams on air",
        {
            "all changed": {"ms": statistics.median(changed) * 1000},
            "none changed": {"ms": statistics.median(unchanged) * 1000},
            "a page of 100 of the ranking": {"ms": statistics.median(page) * 1000},
        },
        {"ms": ("ms", ".1f")},
    )
