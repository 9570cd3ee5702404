"""Keys that must be removed from Redis and could not be: kept in this process until they are."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Iterable

__all__ = ["PendingRemovals"]

_log = logging.getLogger("rootstream_store.cache")
_BATCH = 1000
"""Keys in one command: a long outage must not end in one command that takes longer than the timeout."""


class PendingRemovals:
    """Thread-safe. `remove` takes keys and returns those that Redis did not take; `retry_after` in seconds.

    A thread of its own tries again while any are left, so that an idle process does not leave other processes
    with stale values.
    """

    def __init__(self, remove: Callable[[list[bytes]], list[bytes]], retry_after: float) -> None:
        self._remove = remove
        self._retry_after = max(retry_after, 0.05)
        self._lock = threading.Lock()
        self._keys: dict[bytes, int] = {}
        self._numbers = itertools.count()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, key: bytes) -> bool:
        return key in self._keys

    def add(self, keys: Iterable[bytes]) -> None:
        """Remember these keys, and see to it that they are removed."""
        with self._lock:
            for key in keys:
                self._keys[key] = next(self._numbers)
            # A forked child has the attribute but not the thread.
            if self._keys and not (self._thread and self._thread.is_alive()) and not self._stop.is_set():
                thread = threading.Thread(target=self._retry, name="rootstream-invalidate", daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:
                    # No more threads, or the interpreter is ending. Every call of this process tries as well.
                    _log.warning("no thread to repeat invalidations in: %s", error)
                else:
                    self._thread = thread

    def flush(self) -> bool:
        """Remove what is remembered, as far as one command goes. True when nothing is left."""
        return self._flush_batch() and not self._keys

    def close(self) -> None:
        """Try once more and stop the thread."""
        self._stop.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        while self._keys and self._flush_batch():
            pass

    def _flush_batch(self) -> bool:
        with self._lock:
            batch = dict(itertools.islice(self._keys.items(), _BATCH))
        left = set(self._remove(list(batch))) if batch else set()
        with self._lock:
            for key, number in batch.items():
                # One that was added again meanwhile was written again: it has to be removed again.
                if key not in left and self._keys.get(key) == number:
                    del self._keys[key]
        return not left

    def _retry(self) -> None:
        while not self._stop.wait(self._retry_after):
            while self._keys and self._flush_batch():
                pass
            with self._lock:
                if not self._keys:
                    self._thread = None
                    return
