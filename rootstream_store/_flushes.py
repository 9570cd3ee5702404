"""How flushing viewers is going in this process, for health and metrics."""

from __future__ import annotations

import threading
import time
from typing import Final

import msgspec

__all__ = ["FlushHealth", "Flushes"]

_LATE: Final = 120.0
"""Seconds after which a flush is late: twice the longest interval of a Flusher."""


class FlushHealth(msgspec.Struct, frozen=True, kw_only=True):
    """The flushes of the Flushers of this store; those of other processes are not known here."""

    age_seconds: float | None = None
    """Since the last one that was complete, or the start. None: no Flusher runs."""
    done: int = 0
    """Complete flushes since the store was opened."""
    failed: int = 0
    """Others: PostgreSQL did not answer, or Redis not for all streams. The next one makes up for each."""
    is_late: bool = False
    """None was complete for two minutes."""


class Flushes:
    """Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = self._done = self._failed = 0
        self._last = 0.0

    def begin(self) -> None:
        """A Flusher runs from now on."""
        with self._lock:
            if not self._running:
                self._last = time.monotonic()
            self._running += 1

    def end(self) -> None:
        """One does not any more."""
        with self._lock:
            self._running -= 1

    def note(self, *, is_complete: bool) -> None:
        """A flush has ended."""
        with self._lock:
            if is_complete:
                self._done += 1
                self._last = time.monotonic()
            else:
                self._failed += 1

    def read(self) -> FlushHealth:
        """As it is now."""
        with self._lock:
            age = time.monotonic() - self._last if self._running else None
            return FlushHealth(
                age_seconds=age, done=self._done, failed=self._failed, is_late=age is not None and age > _LATE
            )
