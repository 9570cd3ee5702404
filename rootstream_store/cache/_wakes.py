"""Wake-ups: messages that say only that there is something new, sent by a thread so that writers do not wait.

A writer leaves the newest message of a channel in a dict and, only when the thread sleeps, gives it a push.
The first message goes out at once; what comes in the next few milliseconds is one more message.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections.abc import Callable

from rootstream_store.cache.effects import Wake

__all__ = ["PAUSE", "Wakes"]

_log = logging.getLogger("rootstream_store.cache")

PAUSE = 0.005
"""Seconds between two messages on one channel."""


class Wakes:
    """Thread-safe. `send` publishes some; it must not raise. The thread is started by the first wake-up."""

    def __init__(self, send: Callable[[list[Wake]], None]) -> None:
        self._send = send
        self._starting = threading.Lock()
        self._closed = False
        self._begin()

    def add(self, wake: Wake) -> None:
        """Have it sent soon, unless a newer one of its channel comes first. Never waits."""
        # In this order: the thread says that it sleeps before it looks at the dict for the last time.
        self._pending[wake.channel] = wake
        if self._is_asleep or self._process != os.getpid():
            self._push()

    def close(self) -> None:
        """Send what is left and stop the thread. May be repeated."""
        with self._starting:
            self._closed = True
            thread = self._thread if self._process == os.getpid() else None
            self._stop.set()
            self._pushes.put(None)
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._thread: threading.Thread | None = None
        self._pending: dict[str, Wake] = {}
        self._pushes: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._is_asleep = True

    def _push(self) -> None:
        if self._thread is not None and self._process == os.getpid():
            self._is_asleep = False
            self._pushes.put(None)
            return
        with self._starting:
            if self._closed:
                return
            if self._process != os.getpid():
                # A forked child has all of this but the thread.
                pending = self._pending
                self._begin()
                self._pending = pending
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="rootstream-wake", daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:
                    # No more threads, or the interpreter is ending: readers look by themselves after a while.
                    _log.warning("no thread to send wake-ups in: %s", error)
                    return
                self._thread = thread
            self._is_asleep = False
            self._pushes.put(None)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._is_asleep = True
            if not self._pending:
                self._pushes.get()
            self._is_asleep = False
            while self._pending:
                self._flush()
                self._stop.wait(PAUSE)
        self._flush()

    def _flush(self) -> None:
        # One by one: a writer may put a newer one in at any moment.
        wakes = [wake for channel in list(self._pending) if (wake := self._pending.pop(channel, None))]
        if wakes:
            self._send(wakes)
