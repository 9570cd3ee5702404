"""What the lease cache counts."""

from __future__ import annotations

import threading

import msgspec

__all__ = ["Counts", "LeaseCounters"]


class LeaseCounters(msgspec.Struct, frozen=True, kw_only=True):
    """Counted since the cache was made."""

    hits: int
    """Answers from Redis."""
    misses: int
    """Answers from the load function."""
    fills: int
    """Loaded values that Redis took."""
    refused_fills: int
    """Loaded values that Redis did not take, since the key was written meanwhile: each would have been
    stale."""


class Counts:
    """Thread-safe."""

    def __init__(self) -> None:
        # += on an attribute is not one step to Python.
        self._lock = threading.Lock()
        self._hits = self._misses = self._fills = self._refused_fills = 0

    def hit(self) -> None:
        """An answer from Redis."""
        with self._lock:
            self._hits += 1

    def miss(self) -> None:
        """An answer from the load function."""
        with self._lock:
            self._misses += 1

    def fill(self, *, taken: bool) -> bool:
        """A loaded value was offered to Redis. Returns `taken`: whether Redis took it."""
        with self._lock:
            self._fills += taken
            self._refused_fills += not taken
        return taken

    def read(self) -> LeaseCounters:
        """All of them as of one moment."""
        with self._lock:
            return LeaseCounters(
                hits=self._hits, misses=self._misses, fills=self._fills, refused_fills=self._refused_fills
            )
