"""Messages sent by a thread, many in one round trip, and what could not be published told to the readers.

While Redis is away the messages wait, the newest `MOST_WAITING` of them. Those that were being sent when it
failed are not repeated: nobody knows whether they arrived, and twice is worse than a gap that is told.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from rootstream_store.cache.messages import LOST, Announce

__all__ = ["MOST_WAITING", "PAUSE", "Announcer"]

_log = logging.getLogger("rootstream_store.cache")

MOST_WAITING: Final = 20_000
"""Messages that wait to be sent; beyond it the oldest is dropped, counted and told."""
PAUSE: Final = 0.01
"""Seconds between two sendings: what comes meanwhile goes together."""
_MOST_AT_ONCE: Final = 256
_MOST_BYTES_AT_ONCE: Final = 262_144
_LONGEST_RETRY: Final = 1.0


class Announcer:
    """Thread-safe. `send` sends some in one round trip and says whether they arrived, `is_there` whether
    Redis can be reached: neither may raise. `lost` is told how many were lost here.

    The thread is started when it is first needed.
    """

    def __init__(
        self,
        send: Callable[[Sequence[Announce]], bool],
        is_there: Callable[[], bool],
        lost: Callable[[int], None],
        retry_after: float,
    ) -> None:
        self._send = send
        self._is_there = is_there
        self._lost = lost
        self._retry_after = min(max(retry_after, 0.05), _LONGEST_RETRY)
        self._starting = threading.Lock()
        self._closed = False
        self._begin()

    def add(self, announce: Announce) -> None:
        """Have it sent soon, after those that were added before. Never waits."""
        if self._process != os.getpid():
            self._begin()  # what waits in a forked child's copy is the parent's to send
        if self._closed:
            self._lost(1)
            return
        if len(self._waiting) >= MOST_WAITING:
            try:
                self._waiting.popleft()
            except IndexError:  # the thread was faster
                pass
            else:
                self.note_lost(1)
                self._lost(1)
        self._waiting.append(announce)
        if self._is_asleep:
            self._push()

    def note_lost(self, count: int) -> None:
        """Tell the readers, as soon as Redis can be reached, that `count` messages may be missing."""
        if self._process != os.getpid():
            self._begin()
        now = datetime.now(UTC)
        with self._counting:
            if not self._missing:
                self._missing_since = now
            self._missing += count
            self._missing_until = now
        if self._is_asleep:
            self._push()

    def close(self) -> None:
        """Send what is left and stop the thread; what cannot be sent at once is lost. May be repeated."""
        with self._starting:
            self._closed = True
            thread = self._thread if self._process == os.getpid() else None
            self._stop.set()
            self._pushes.put(None)
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        if self._process == os.getpid() and (left := len(self._waiting)):
            self._waiting.clear()
            self._lost(left)

    def _begin(self) -> None:
        self._process = os.getpid()
        self._publisher = os.urandom(8).hex()
        self._thread: threading.Thread | None = None
        self._waiting: deque[Announce] = deque()
        self._pushes: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._is_asleep = True
        self._counting = threading.Lock()
        self._missing = 0
        self._missing_since = self._missing_until = datetime.now(UTC)

    def _push(self) -> None:
        with self._starting:
            if self._closed:
                return
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="rootstream-announce", daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:
                    # No more threads, or the interpreter is ending. The next message tries again.
                    _log.warning("no thread to send messages in: %s", error)
                    return
                self._thread = thread
            self._is_asleep = False
            self._pushes.put(None)

    def _run(self) -> None:
        while not self._stop.is_set():
            # In this order: whoever adds one after the look sees that the thread sleeps.
            self._is_asleep = True
            if not self._waiting and not self._missing:
                self._pushes.get()
            self._is_asleep = False
            while (self._waiting or self._missing) and not self._stop.is_set():
                if not self._round():
                    self._stop.wait(self._retry_after)
                elif len(self._waiting) < _MOST_AT_ONCE:
                    self._stop.wait(PAUSE)
        while self._waiting or self._missing:
            if not self._round():
                return  # close() counts what is left

    def _round(self) -> bool:
        """Send what fits in one round trip; a loss that is to be told comes first, alone."""
        if not self._is_there():
            return False
        if self._missing:
            return self._tell()
        batch: list[Announce] = []
        size = 0
        while self._waiting and len(batch) < _MOST_AT_ONCE and size < _MOST_BYTES_AT_ONCE:
            try:
                batch.append(self._waiting.popleft())
            except IndexError:  # add() dropped it
                break
            size += batch[-1].size
        if not batch or self._send(batch):
            return True
        self.note_lost(len(batch))
        self._lost(len(batch))
        return False

    def _tell(self) -> bool:
        with self._counting:
            count, since, until = self._missing, self._missing_since, self._missing_until
        text = {
            "type": LOST,
            "publisher": self._publisher,
            "count": count,
            "since": since,
            "until": until,
        }
        if not self._send([Announce(LOST, msgspec.json.encode(text))]):
            return False
        with self._counting:
            self._missing -= count
            if self._missing:
                self._missing_since = until
        return True
