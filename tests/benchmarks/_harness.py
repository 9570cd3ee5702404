"""What the benchmarks share: one CPU for servers and client, interleaved rounds, medians, tables.

On one CPU the scheduler's choice of core does not decide the result. The rounds of the contenders are
shuffled, so that a moment of load on the machine hits each of them alike. Ratios within a run are what to
read: machines are noisy. The CPU time of the client is noisy too, but less.
"""

from __future__ import annotations

import contextlib
import math
import os
import random
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from rootstream_store import migrations
from rootstream_store.embedded import EmbeddedServers

__all__ = ["Call", "Figures", "durable_servers", "measure", "on_one_cpu", "ratios", "show"]

Call = Callable[[], object]
Figures = dict[str, dict[str, float]]
"""By contender: p50_us, ratio to the baseline, cpu_us of the client."""

_WARM_UP = 2
"""Rounds that do not count: statements are prepared, caches filled."""


@contextlib.contextmanager
def on_one_cpu() -> Iterator[None]:
    """Pins this process, and the servers that it starts, to one CPU where the system can: the idlest."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {_idlest(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def _idlest(cpus: set[int]) -> int:
    """The one that others use least at this moment."""

    def idle() -> dict[int, int]:
        lines = (line.split() for line in Path("/proc/stat").read_text().splitlines())
        times = {line[0].removeprefix("cpu"): int(line[4]) for line in lines if line[0].startswith("cpu")}
        return {cpu: times.get(str(cpu), 0) for cpu in cpus}

    before = idle()
    time.sleep(0.3)
    after = idle()
    return max(sorted(cpus), key=lambda cpu: after[cpu] - before[cpu])


@contextlib.contextmanager
def durable_servers(*, redis: bool = True) -> Iterator[EmbeddedServers]:
    """Durable as in production: fsync is on. The database is migrated."""
    with EmbeddedServers.start(redis=redis) as servers:
        migrations.apply(servers.database_url)
        yield servers


def measure(
    contenders: dict[str, Call],
    baseline: str,
    rounds: int,
    calls: int,
    *,
    per_call: int = 1,
    seconds: float = math.inf,
) -> Figures:
    """The median over the rounds of each contender's median call.

    `per_call`: events in one call; the figures are of one event then. `seconds`: after that no further round
    begins, on a machine slower than thought; three are made in any case.
    """
    end = time.monotonic() + seconds
    wall: dict[str, list[float]] = {name: [] for name in contenders}
    cpu: dict[str, list[float]] = {name: [] for name in contenders}
    order = list(contenders.items())
    for number in range(rounds + _WARM_UP):
        if time.monotonic() > end and number >= _WARM_UP + 3:
            break
        random.shuffle(order)
        for name, call in order:
            times = []
            cpu_start = time.thread_time()
            for _ in range(calls):
                start = time.perf_counter()
                call()
                times.append(time.perf_counter() - start)
            used = time.thread_time() - cpu_start
            if number >= _WARM_UP:
                wall[name].append(statistics.median(times) * 1e6 / per_call)
                cpu[name].append(used / calls * 1e6 / per_call)
    figures = {
        name: {"p50_us": statistics.median(wall[name]), "cpu_us": statistics.median(cpu[name])}
        for name in contenders
    }
    return ratios(figures, "p50_us", baseline)


def ratios(figures: Figures, key: str, baseline: str) -> Figures:
    """The same with the ratio of `key` to the baseline's."""
    return {name: {**row, "ratio": row[key] / figures[baseline][key]} for name, row in figures.items()}


def show(console: Console, title: str, figures: Figures, columns: dict[str, tuple[str, str]]) -> None:
    """Prints a table. `columns`: by key of the figures, heading and format."""
    table = Table(box=None)
    table.add_column("way")
    for heading, _ in columns.values():
        table.add_column(heading, justify="right")
    for name, row in figures.items():
        cells = (format(row[key], form) if key in row else "" for key, (_, form) in columns.items())
        table.add_row(name, *cells)
    console.print(title, style="italic", soft_wrap=True)  # a title of the table would wrap at its width
    console.print(table)
    console.print()
