"""Ways of doing one thing, measured in turns: each gives the median of some calls whenever it is asked."""

from __future__ import annotations

import asyncio
import math
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from .._harness import Call, Figures, ratios

__all__ = ["Sample", "Way", "awaited", "each", "measure_ways", "repeated"]


class Sample(NamedTuple):
    """Of some calls."""

    p50_us: float
    """The median call."""
    cpu_us: float
    """Processor time of the client for one of them."""


Way = Callable[[int], Sample]
"""Makes so many calls. What it does before the first and after the last is not measured."""


def repeated(call: Call) -> Way:
    """The same call again and again."""
    return lambda count: _sample([call] * count)


def each(prepare: Callable[[int], Sequence[Any]], call: Callable[[Any], object]) -> Way:
    """Calls that use up what they are made with: `prepare` makes so many."""

    def way(count: int) -> Sample:
        return _sample([_bound(call, item) for item in prepare(count)])

    return way


def awaited(loop: asyncio.AbstractEventLoop, call: Callable[[], Awaitable[object]]) -> Way:
    """One call after the other in a coroutine; starting the event loop is not measured."""

    async def run(count: int) -> Sample:
        times = []
        cpu = time.thread_time()
        for _ in range(count):
            start = time.perf_counter()
            await call()
            times.append(time.perf_counter() - start)
        return Sample(statistics.median(times) * 1e6, (time.thread_time() - cpu) / count * 1e6)

    return lambda count: loop.run_until_complete(run(count))


def measure_ways(
    ways: dict[str, Way], baseline: str, rounds: int, calls: int, *, seconds: float = math.inf, warm: int = 2
) -> Figures:
    """The medians over the rounds, in each of which every way has its turn, in any order.

    `seconds`: after that no further round begins; three are made in any case. `warm`: rounds that do not
    count, in which statements are prepared and plans made.
    """
    end = time.monotonic() + seconds
    found: dict[str, list[Sample]] = {name: [] for name in ways}
    order = list(ways.items())
    for number in range(rounds + warm):
        if time.monotonic() > end and number >= warm + 3:
            break
        random.shuffle(order)
        for name, way in order:
            sample = way(calls)
            if number >= warm:
                found[name].append(sample)
    figures = {
        name: {
            "p50_us": statistics.median(sample.p50_us for sample in samples),
            "cpu_us": statistics.median(sample.cpu_us for sample in samples),
        }
        for name, samples in found.items()
    }
    return ratios(figures, "p50_us", baseline)


def _bound(call: Callable[[Any], object], item: Any) -> Call:
    return lambda: call(item)


def _sample(calls: Sequence[Call]) -> Sample:
    times = []
    cpu = time.thread_time()
    for call in calls:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return Sample(statistics.median(times) * 1e6, (time.thread_time() - cpu) / len(calls) * 1e6)
