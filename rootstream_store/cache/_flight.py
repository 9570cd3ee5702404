"""Merging concurrent loads of one key within this process, without ever handing out what was read too
early."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["SharedLoads"]

_T = TypeVar("_T")


class _Flight(Generic[_T]):
    """One load: running once `started`, over once `done` is set; `result` is None when it failed, else one
    value."""

    __slots__ = ("done", "next", "result", "started")

    def __init__(self) -> None:
        self.done = threading.Event()
        self.started = False
        self.result: tuple[_T] | None = None
        self.next: _Flight[_T] | None = None


class SharedLoads(Generic[_T]):
    """At most one load a key runs at a time, and a caller only gets a load that **began after it asked**.

    Joining a load that is already running would be cheaper, and wrong: it may have read before a write that
    the caller knows to be committed. So fifty callers at once make two loads: the first one's, and one for
    all others.
    """

    def __init__(self, patience: float) -> None:
        """`patience`: longest wait in seconds for somebody else's load; then the caller loads for itself."""
        self._patience = patience
        self._lock = threading.Lock()
        self._heads: dict[bytes, _Flight[_T]] = {}

    def run(self, key: bytes, load: Callable[[], _T]) -> _T:
        """What `load` returns, called here or by another thread after this call began. Raises what it
        raises."""
        with self._lock:
            before = self._heads.get(key)
            while before is not None and before.next is not None:
                before = before.next
            if before is not None and not before.started:
                flight, leading = before, False
            else:
                flight, leading = _Flight[_T](), True
                if before is None:
                    flight.started = True
                    self._heads[key] = flight
                else:
                    before.next = flight
        if leading:
            return self._lead(key, flight, before, load)
        if flight.done.wait(2 * self._patience) and flight.result is not None:
            return flight.result[0]
        # It failed or takes too long: an error belongs to the thread that made it, so find out for ourselves.
        return load()

    def _lead(
        self, key: bytes, flight: _Flight[_T], before: _Flight[_T] | None, load: Callable[[], _T]
    ) -> _T:
        try:
            if before is not None:
                before.done.wait(self._patience)
            with self._lock:
                flight.started = True
            value = load()
            flight.result = (value,)
            return value
        finally:
            flight.done.set()
            with self._lock:
                head = self._heads.get(key)
                while head is not None and head.done.is_set():
                    head = head.next
                if head is None:
                    self._heads.pop(key, None)
                else:
                    self._heads[key] = head
