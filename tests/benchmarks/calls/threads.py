"""Threads that share a pool: calls a second, beside the same statement by psycopg_pool's documented idiom."""

from __future__ import annotations

import random
import statistics
import threading
import time
from collections.abc import Callable
from typing import Any

from rootstream_store import users

from .._harness import Figures
from ._bench import Bench, open_store
from ._picture import Bar, Panel
from ._rivals import documented_pool

__all__ = ["run"]

_THREADS = (1, 2, 4, 8, 16, 32)
_POOLS = (8, 20)
_SHOWN = ("1 thread", "8 threads", "32 threads")
"""In the picture."""
_COLUMNS = {
    "ours": ("store, calls/s", ",.0f"),
    "documented": ("psycopg_pool, calls/s", ",.0f"),
    "ratio": ("ratio", ".2f"),
}

Call = Callable[[], object]


def run(bench: Bench) -> None:
    """A table for each size of the pools, and the target of 8 threads."""
    contest, user_id = bench.contest("users.get"), bench.world.user_id
    text, params = contest.query.text, contest.statement.params
    for size in _POOLS:
        with (
            open_store(bench.database_url, pool_size=size, pool_min_size=size) as store,
            documented_pool(bench.database_url, size) as pool,
        ):

            def documented(pool: Any = pool) -> object:
                with pool.connection() as connection:
                    return connection.execute(text, params).fetchone()

            def ours(store: Any = store) -> object:
                return users.get(store, user_id)

            rows = _measure(bench, {"ours": ours, "documented": documented})
        if size == _POOLS[0]:
            bench.panels.append(_panel(rows, size))
        bench.table(f"users.get in threads, pools of {size}", rows, _COLUMNS)
        what = f"calls a second in 8 threads, pools of {size}, beside psycopg_pool"
        bench.aim(what, rows["8 threads"]["ratio"])


def _panel(rows: Figures, size: int) -> Panel:
    bars = [
        bar
        for threads, row in rows.items()
        if threads in _SHOWN
        for bar in (
            Bar(f"rootstream_store, {threads}", row["ours"], "ours"),
            Bar(f"psycopg_pool, {threads}", row["documented"]),
        )
    ]
    return Panel(f"a user by id in threads, pools of {size}", "calls a second, more is better", bars)


def _measure(bench: Bench, calls: dict[str, Call]) -> Figures:
    seconds = 0.1 if bench.quick else 0.25
    rates: dict[tuple[int, str], list[float]] = {(n, name): [] for n in _THREADS for name in calls}
    turns = list(rates)
    for number in range(bench.rounds(8) + 1):
        random.shuffle(turns)
        for threads, name in turns:
            rate = _race(calls[name], threads, seconds)
            if number:  # the first round warms up
                rates[threads, name].append(rate)
    rows: Figures = {}
    for threads in _THREADS:
        row = {name: statistics.median(rates[threads, name]) for name in calls}
        rows[f"{threads} thread{'s' * (threads > 1)}"] = {**row, "ratio": row["ours"] / row["documented"]}
    return rows


def _race(call: Call, threads: int, seconds: float) -> float:
    """Calls a second of all threads together."""
    counts = [0] * threads
    barrier = threading.Barrier(threads + 1)
    stopped = False

    def work(number: int) -> None:
        done = 0
        barrier.wait()
        while not stopped:
            call()
            done += 1
        counts[number] = done

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    barrier.wait()
    start = time.perf_counter()
    time.sleep(seconds)
    stopped = True
    for worker in workers:
        worker.join()
    return sum(counts) / (time.perf_counter() - start)
