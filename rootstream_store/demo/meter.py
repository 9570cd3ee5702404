"""How long each repository call took, as its caller saw it."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

__all__ = ["Meter", "Timing"]

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Timing:
    """All calls of one function. Times in seconds."""

    name: str
    calls: int
    p50: float
    p99: float


class Meter:
    """Collects the times of calls from any number of threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._times: dict[str, list[float]] = defaultdict(list)

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Calls `function` and keeps how long it took, also when it raises."""
        start = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            elapsed = time.perf_counter() - start
            name = f"{function.__module__.rpartition('.')[2].lstrip('_')}.{function.__name__.rstrip('_')}"
            if ".events." in function.__module__:
                name = f"events.{function.__name__.rstrip('_')}"
            with self._lock:
                self._times[name].append(elapsed)

    def timings(self) -> list[Timing]:
        """One for each function called, most called first."""
        with self._lock:
            found = {name: sorted(times) for name, times in self._times.items()}
        timings = [
            Timing(name=name, calls=len(times), p50=times[len(times) // 2], p99=times[len(times) * 99 // 100])
            for name, times in found.items()
        ]
        return sorted(timings, key=lambda timing: (-timing.calls, timing.name))
