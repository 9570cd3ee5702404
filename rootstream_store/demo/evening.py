"""Plays the script on a store, with as many threads as a small service would have."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from rootstream_store import events
from rootstream_store.demo.cast import STREAM, Cast, Played
from rootstream_store.demo.listener import Listener
from rootstream_store.demo.meter import Meter
from rootstream_store.demo.script import Broadcast
from rootstream_store.records import Event
from rootstream_store.repositories import viewers
from rootstream_store.store import Store
from rootstream_store.transaction import Transaction

__all__ = ["Evening"]

T = TypeVar("T")

_FLUSH_EVERY = 0.5
"""Seconds. A service flushes every five; this evening is short."""


@dataclass(frozen=True)
class _Pace:
    """The clock of the evening: one minute of the script lasts `minute` seconds. `stop` ends it early."""

    start: float
    minute: float
    stop: threading.Event


class Evening:
    """A script being played on `store`, which has Redis. `run_id` keeps its user names apart from those of
    earlier evenings."""

    def __init__(self, store: Store, script: list[Broadcast], *, run_id: str, threads: int = 8) -> None:
        self.store = store
        self.script = script
        self.run_id = run_id
        self.meter = Meter()
        self.usage_rows = 0
        self.seconds = 0.0
        self.delivered: dict[str, list[int]] = {}
        """By stream: the versions of the events that a subscription got, as it got them."""
        self.heard: dict[int, list[tuple[str, int | None]]] = {}
        """By stream: which starts and stops a listener heard, each with its session, in this order."""
        self.gaps: list[str] = []
        """Why the listener may have missed something."""
        self._threads = min(threads, len(script))

    @property
    def steps(self) -> int:
        """How often `advance` will be called."""
        return sum(len(broadcast.minutes) + 2 for broadcast in self.script)

    def play(self, *, seconds: float, advance: Callable[[], None]) -> list[Played]:
        """Signs everybody up, then plays all broadcasts within about `seconds`, longer where the machine
        is slower; calls `advance` after each step. The first error of any thread ends the evening and is
        raised."""
        begin = time.monotonic()
        watcher = events.Subscription(
            self.store, f"demo {self.run_id}", self._note, aggregate_type=STREAM, start="end"
        )
        try:
            with watcher, Listener(self.store, self.run_id) as listener:
                with viewers.Flusher(self.store, every=_FLUSH_EVERY):
                    played = self._play(seconds, advance)
                listener.catch_up()
                self.heard, self.gaps = listener.heard, listener.gaps
            watcher.catch_up()
        finally:
            events.delete_subscription(self.store, watcher.name)
        self.seconds = time.monotonic() - begin
        return played

    def _note(self, _: Transaction, event: Event) -> None:
        self.delivered.setdefault(event.aggregate_id, []).append(event.version)

    def _play(self, seconds: float, advance: Callable[[], None]) -> list[Played]:
        casts = [Cast(self.store, self.meter, broadcast, self.run_id) for broadcast in self.script]
        stop = threading.Event()

        def guarded(job: Callable[..., T], *arguments: Any) -> T:
            try:
                return job(*arguments)
            except BaseException:
                stop.set()
                raise

        # A password hash keeps a processor busy: more threads would only measure the queue.
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            signing = [pool.submit(guarded, self._sign_up, cast, advance, stop) for cast in casts]
        for job in signing:
            job.result()
        with ThreadPoolExecutor(self._threads) as pool:
            minutes = max(broadcast.first_minute + len(broadcast.minutes) for broadcast in self.script)
            pace = _Pace(start=time.monotonic(), minute=seconds / minutes, stop=stop)
            playing = [
                pool.submit(guarded, self._play_share, casts[number :: self._threads], pace, advance)
                for number in range(self._threads)
            ]
        played = [one for job in playing for one in job.result()]
        self.usage_rows = sum(cast.usage_rows for cast in casts)
        return played

    def _sign_up(self, cast: Cast, advance: Callable[[], None], stop: threading.Event) -> None:
        if not stop.is_set():
            cast.sign_up()
            advance()

    def _play_share(self, casts: list[Cast], pace: _Pace, advance: Callable[[], None]) -> list[Played]:
        minute = 0
        while not all(cast.is_over for cast in casts) and not pace.stop.is_set():
            for cast in casts:
                if cast.broadcast.first_minute <= minute and not cast.is_over:
                    cast.play_minute()
                    advance()
            minute += 1
            # A machine that is behind does not wait.
            pace.stop.wait(max(0.0, pace.start + minute * pace.minute - time.monotonic()))
        for cast in casts:
            cast.log_out()
            advance()
        return [cast.played() for cast in casts]
