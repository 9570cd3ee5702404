"""State updates of one process to eight subscribers, each in a process of its own, at a given rate.

The delay is from the call of `push_state` to the message in the subscriber's hands, by one clock. Here the
processes use all processors, as they would: it is a rate that is given, not a speed that is compared.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from rootstream_store import Store, live
from rootstream_store.embedded import EmbeddedServers

from .._harness import durable_servers
from ._bench import Bench
from ._fanout_messages import End

__all__ = ["run"]

_RATE = 10_000
_SUBSCRIBERS = 8
_STREAMS = 100
_COLUMNS = {
    "sent": ("sent/s", ",.0f"),
    "received": ("received", ",.0f"),
    "missing": ("missing", ",.0f"),
    "p50_ms": ("p50 ms", ".1f"),
    "p99_ms": ("p99 ms", ".1f"),
    "max_ms": ("max ms", ".1f"),
    "processors": ("processors used", ".2f"),
}


def run(bench: Bench) -> None:
    """The table, and the target."""
    rows = {}
    with (
        _all_processors(),
        durable_servers() as servers,
        Store.open(servers.database_url, servers.redis_url) as store,
    ):
        for rate in (1000, _RATE):
            name = f"{_SUBSCRIBERS} subscribers, {rate:,}/s"
            rows[name] = _measure(store, servers, rate, 3.0 if bench.quick else 10.0)
    bench.table("state updates to subscribers", rows, _COLUMNS)
    row = rows[f"{_SUBSCRIBERS} subscribers, {_RATE:,}/s"]
    bench.target(f"fan-out of {_RATE:,} updates/s to {_SUBSCRIBERS}, p99", 100, row["p99_ms"], "ms")
    bench.target("updates sent a second", 0.98 * _RATE, row["sent"], "/s", at_most=False)
    bench.target("updates that a subscriber missed", 0, row["missing"], "")


def _measure(store: Store, servers: EmbeddedServers, rate: int, seconds: float) -> dict[str, float]:
    for stream in range(1, _STREAMS + 1):
        live.delete_state(store, stream)
    command = [sys.executable, "-m", f"{__package__}._follower"]
    command += [servers.database_url, servers.redis_url]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(_SUBSCRIBERS)]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        used, used_there = time.process_time(), _processor_time(store)
        sent, took = _send(store, rate, seconds)
        used, used_there = time.process_time() - used, _processor_time(store) - used_there
        found = [json.loads(process.communicate(timeout=60)[0]) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return {
        "sent": sent / took,
        "received": min(row["received"] for row in found),
        "missing": max(max(row["missing"] + row["gaps"], sent - row["received"]) for row in found),
        "processors": (used + used_there + sum(row["cpu_s"] for row in found)) / took,
        # Of the subscriber that fared worst.
        **{name: max(row[name] for row in found) for name in ("p50_ms", "p99_ms", "max_ms")},
    }


def _send(store: Store, rate: int, seconds: float) -> tuple[int, float]:
    sent, wanted = 0, int(rate * seconds)
    began = time.perf_counter()
    while sent < wanted:
        due = min(wanted, int((time.perf_counter() - began) * rate) + 1)
        while sent < due:
            live.push_state(store, sent % _STREAMS + 1, {"at": time.time(), "number": sent})
            sent += 1
        time.sleep(0.001)
    took = time.perf_counter() - began
    # Behind all others, since it goes the same way.
    live.publish(store, End(number=sent), soon=True)
    return sent, took


def _processor_time(store: Store) -> float:
    """Seconds of the Redis server."""
    info: Any = store.redis.info("cpu")
    return float(info["used_cpu_user"] + info["used_cpu_sys"])


@contextlib.contextmanager
def _all_processors() -> Iterator[None]:
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    pinned = os.sched_getaffinity(0)
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    try:
        yield
    finally:
        os.sched_setaffinity(0, pinned)
