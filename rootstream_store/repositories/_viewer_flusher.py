"""Flushing viewers all the time, on a thread of its own."""

from __future__ import annotations

import logging
import random
import secrets
import threading
from types import TracebackType
from typing import Final, Self

from rootstream_store.errors import Conflict, InvalidInput, RootStreamError, StoreClosed
from rootstream_store.repositories._viewer_flush import FlushReport, flush
from rootstream_store.store import Store

__all__ = ["Flusher"]

_log = logging.getLogger("rootstream_store.viewers")
_LONGEST: Final = 60.0


class Flusher:
    """Flushes the viewers of all streams every `every` seconds (up to 60) while it is entered, and once
    more at the end: `with viewers.Flusher(store):`.

    Several, in one process or many, do no harm; one is enough. A server that is away is waited for: what
    was counted meanwhile is flushed when it is back. Raises InvalidInput.
    """

    def __init__(self, store: Store, *, every: float = 5.0) -> None:
        if isinstance(every, bool) or not isinstance(every, int | float) or not 0.01 <= every <= _LONGEST:
            raise InvalidInput("every", f"must be a number of seconds from 0.01 to {_LONGEST:.0f}")
        self._store = store
        self._every = float(every)
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._last: FlushReport | None = None
        self._failures = 0

    @property
    def last_report(self) -> FlushReport | None:
        """What the last flush did that came to its end. None: none did yet."""
        return self._last

    def start(self) -> Self:
        """Begins. Raises Conflict when it has begun already."""
        with self._lock:
            if self._thread is not None:
                raise Conflict("this flusher runs already")
            self._stopping.clear()
            self._thread = threading.Thread(target=self._run, name="rootstream-viewers", daemon=True)
            self._thread.start()
        return self

    def stop(self) -> None:
        """Ends, after a last flush. Does nothing when it is not running."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._stopping.set()
            thread.join()

    def run(self, stop: threading.Event) -> None:
        """Flushes on this thread until `stop` is set, and once more then."""
        flushes = self._store._flushes
        flushes.begin()
        try:
            while not stop.wait(self._every * random.uniform(0.9, 1.1)):
                if not self._flush():
                    return
            self._flush()
        finally:
            flushes.end()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self) -> None:
        self.run(self._stopping)

    def _flush(self) -> bool:
        """Whether it may go on."""
        try:
            self._last = self._store.flow(flush(secrets.token_hex(8)))
            self._failures = 0
            self._store._flushes.note(is_complete=self._last.is_complete)
        except StoreClosed:
            return False
        except RootStreamError as error:
            self._store._flushes.note(is_complete=False)
            self._failures += 1
            if self._failures in (1, 10) or self._failures % 100 == 0:
                _log.warning("viewers are not flushed, failure %d: %s", self._failures, error)
        return True
