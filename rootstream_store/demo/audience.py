"""The viewers of one broadcast: each comes, gives signs of life and goes, as players do."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Final

from rootstream_store.demo.meter import Meter
from rootstream_store.records import ViewerCount
from rootstream_store.repositories import viewers
from rootstream_store.store import Store

__all__ = ["Audience"]

_EXPIRY: Final = 300.0
"""Seconds without a sign of life after which a viewer is given up: longer than any pause of this script,
also on a machine that is far behind."""
_SIGNS: Final = 10
"""Steps of the script in which each viewer gives one sign of life."""
_PATIENCE: Final = 5.0
"""Seconds for which what Redis did not take is told again."""
_PAUSE: Final = 0.02


class Audience:
    """Who watches a stream. They are counted in Redis; only a `Flusher` and the stop write to PostgreSQL."""

    def __init__(self, store: Store, meter: Meter, stream_id: int) -> None:
        self._store = store
        self._call = meter.call
        self._stream_id = stream_id
        self._present: deque[int] = deque()
        self._numbers = count()

    def come(self, number: int) -> None:
        """So many more watch."""
        for _ in range(number):
            viewer = next(self._numbers)
            self._tell(
                lambda viewer=viewer: self._call(  # type: ignore[misc]  # mypy and defaults
                    viewers.join, self._store, self._stream_id, viewer, expiry=_EXPIRY
                )
            )
            self._present.append(viewer)

    def go(self, number: int) -> None:
        """So many of them leave, those who came first."""
        for _ in range(number):
            viewer = self._present.popleft()
            self._tell(
                lambda viewer=viewer: self._call(viewers.leave, self._store, self._stream_id, viewer)  # type: ignore[misc]  # mypy and defaults
            )

    def stay(self, step: int) -> None:
        """Those whose turn it is in this step give a sign of life."""
        for viewer in self._present:
            if viewer % _SIGNS == step % _SIGNS:
                self._call(viewers.heartbeat, self._store, self._stream_id, viewer, expiry=_EXPIRY)

    def _tell(self, call: Callable[[], ViewerCount]) -> None:
        # Told twice is once. Where Redis stays away the checks show it.
        end = time.monotonic() + _PATIENCE
        while not call().is_counted and time.monotonic() < end:
            time.sleep(_PAUSE)
