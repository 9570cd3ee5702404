"""The writer of a queue: one thread that takes to PostgreSQL what real-time threads have handed over."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from rootstream_store.cache import Wake, keys
from rootstream_store.capi._writer_events import EventWriter
from rootstream_store.capi._writer_session import Stopped, WriterSession
from rootstream_store.capi._writer_stats import StatsWriter
from rootstream_store.errors import RootStreamError
from rootstream_store.store import Store

__all__ = ["Writer"]

_log = logging.getLogger("rootstream_store.capi")

_EVENTS, _STATS, _FLUSHING, _STOPPING = 1, 2, 4, 8
"""As in queue.h."""
_NAP = 2_000
"""Microseconds that events wait for others to go with them."""
_STATS_EVERY = 0.25
"""Seconds between two batches of stats."""


class Writer:
    """The thread. `queue` is a holder of the queue that the thread gives up at its end.

    It runs until the queue is told to stop, whatever the server does: what cannot be written stays in the
    queue.
    """

    def __init__(
        self, ffi: Any, lib: Any, queue: Any, store: Store, ended: Callable[[], object] = lambda: None
    ) -> None:
        """`ended` is called at the end of the thread, before it gives up the queue."""
        self._ended = ended
        self._ffi, self._lib, self._queue, self._store = ffi, lib, queue, store
        self._session = WriterSession(
            store.settings, self._pause, lambda: self._lib.rssq_queue_note_reconnect(self._queue)
        )
        self._events = EventWriter(ffi, lib, queue, self._session)
        self._stats = StatsWriter(ffi, lib, queue, self._session)
        self._stats_due: float | None = None
        self._told: str | None = None
        self._thread = threading.Thread(target=self._run, name="rootstream-queue", daemon=True)

    def start(self) -> None:
        """Starts the thread. Raises RuntimeError when there can be no more; the queue is then still held."""
        self._thread.start()

    def abort(self) -> None:
        """Makes the thread stop waiting for a server that does not answer. Any thread."""
        self._session.abort()

    def _run(self) -> None:
        try:
            while True:
                try:
                    if not self._turn():
                        break
                except Stopped:
                    break
                except Exception as error:  # noqa: BLE001  # what waits must not wait for ever for a bug of ours
                    _log.exception("the queue's writer goes on after an error that should not be")
                    self._note_text(f"{type(error).__name__}: {error}")
                    if self._pause(1.0):
                        break
            self._session.close()
        finally:
            self._ended()
            self._lib.rssq_queue_writer_gone(self._queue)

    def _turn(self) -> bool:
        """Waits for work and does it. False: told to stop."""
        wanted, timeout = _EVENTS | _STATS, -1
        if self._stats_due is not None:
            wanted, timeout = _EVENTS, max(0, round((self._stats_due - time.monotonic()) * 1_000_000))
        state = self._lib.rssq_queue_wait(self._queue, wanted, timeout, _NAP)
        if state & _STOPPING:
            return False
        if state & (_EVENTS | _FLUSHING) and self._events.store(self._note):
            self._store.after_commit(Wake(keys.APPENDED, 0))  # somewhere
        if state & (_STATS | _FLUSHING):
            self._stats.collect()
        if self._stats_due is not None and (state & _FLUSHING or time.monotonic() >= self._stats_due):
            self._stats_due = None
            self._stats.store(self._note)
        if self._stats.waiting and self._stats_due is None:
            self._stats_due = time.monotonic() + _STATS_EVERY
        return True

    def _pause(self, seconds: float) -> bool:
        # To make one row a stream of the reports needs no server, and its absence brings many.
        self._stats.collect()
        return bool(self._lib.rssq_queue_pause(self._queue, round(seconds * 1_000_000)))

    def _note(self, error: RootStreamError | None) -> None:
        self._note_text(None if error is None else str(error))

    def _note_text(self, text: str | None) -> None:
        if text == self._told:
            return
        if text is None:
            _log.warning("the queue is written again")
            self._lib.rssq_queue_note_error(self._queue, self._ffi.NULL)
        else:
            if self._told is None:
                _log.warning("the queue cannot be written: %s", text)
            self._lib.rssq_queue_note_error(self._queue, text.encode(errors="replace"))
        self._told = text
