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
from rootstream_store.db import Db
from rootstream_store.demo.meter import Meter
from rootstream_store.demo.script import MINUTE, Broadcast
from rootstream_store.records import Event
from rootstream_store.repositories import (
    billing,
    recordings,
    sessions,
    stream_sessions,
    streams,
    usage,
    users,
)
from rootstream_store.secret import Secret
from rootstream_store.store import Store
from rootstream_store.transaction import Transaction

__all__ = ["STREAM", "Evening", "Played"]

T = TypeVar("T")

STREAM = "stream"
"""The aggregate type of a stream's events."""


@dataclass(frozen=True, kw_only=True)
class Played:
    """What came of one broadcast: the keys under which the tables hold it."""

    broadcast: Broadcast
    user_id: int
    stream_id: int
    session_id: int
    token: Secret
    events_appended: int


@dataclass(frozen=True)
class _Pace:
    """The clock of the evening: one minute of the script lasts `minute` seconds. `stop` ends it early."""

    start: float
    minute: float
    stop: threading.Event


class Evening:
    """A script being played on `store`. `run_id` keeps its user names apart from those of earlier
    evenings."""

    def __init__(self, store: Store, script: list[Broadcast], *, run_id: str, threads: int = 8) -> None:
        self.store = store
        self.script = script
        self.run_id = run_id
        self.meter = Meter()
        self.usage_rows = 0
        self.seconds = 0.0
        self.delivered: dict[str, list[int]] = {}
        """By stream: the versions of the events that a subscription got, as it got them."""
        self._threads = min(threads, len(script))
        self._count_lock = threading.Lock()

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
            with watcher:
                played = self._play(seconds, advance)
            watcher.catch_up()
        finally:
            events.delete_subscription(self.store, watcher.name)
        self.seconds = time.monotonic() - begin
        return played

    def _note(self, _: Transaction, event: Event) -> None:
        self.delivered.setdefault(event.aggregate_id, []).append(event.version)

    def _play(self, seconds: float, advance: Callable[[], None]) -> list[Played]:
        casts = [_Cast(self, broadcast) for broadcast in self.script]
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
        return [one for job in playing for one in job.result()]

    def _sign_up(self, cast: _Cast, advance: Callable[[], None], stop: threading.Event) -> None:
        if not stop.is_set():
            cast.sign_up()
            advance()

    def _play_share(self, casts: list[_Cast], pace: _Pace, advance: Callable[[], None]) -> list[Played]:
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

    def count_usage(self, rows: int) -> None:
        """Adds to the usage rows copied."""
        with self._count_lock:
            self.usage_rows += rows


class _Cast:
    """One broadcast on its way. Every change and the event that tells of it are one transaction."""

    def __init__(self, evening: Evening, broadcast: Broadcast) -> None:
        self._evening = evening
        self._store = evening.store
        self._call = evening.meter.call
        self.broadcast = broadcast
        self._minute = 0
        self._user_id = self._stream_id = self._session_id = 0
        self._recording_id: int | None = None
        self._token = Secret("")
        self._events_appended = 0

    @property
    def is_over(self) -> bool:
        return self._minute == len(self.broadcast.minutes)

    def sign_up(self) -> None:
        username = f"{self.broadcast.username}_{self._evening.run_id}"
        password = Secret.generate()
        user = self._call(
            users.create,
            self._store,
            username=username,
            email=f"{username}@example.org",
            password=password,
            display_name=self.broadcast.username.replace("_", " ").title(),
        )
        self._user_id = user.id
        self._call(users.verify, self._store, user.id)
        self._call(billing.open, self._store, user.id, subscription_tier="pro", monthly_limit_gb=100_000)
        self._call(users.authenticate, self._store, login=username, password=password)
        session = self._call(
            sessions.create, self._store, user.id, user_agent="rootstream demo", ip_address="192.0.2.1"
        )
        self._token = session.token
        with self._store.transaction() as tx:
            stream = self._call(streams.create, tx, user.id, name=self.broadcast.title)
            self._stream_id = stream.id
            self._append(tx, "StreamCreated", {"name": stream.name})

    def play_minute(self) -> None:
        self._call(sessions.validate, self._store, self._token)
        if self._minute == 0:
            self._start()
        minute = self.broadcast.minutes[self._minute]
        self._move(joined=minute.joined)
        self._move(left=minute.left)
        with self._store.transaction() as tx:
            self._call(
                streams.update_stats,
                tx,
                self._stream_id,
                bitrate_kbps=self.broadcast.bitrate_kbps,
                bytes_sent=minute.bytes_sent,
            )
            self._append(tx, "BytesSent", {"bytes": minute.bytes_sent})
        self._log_viewers(minute.joined, minute.left)
        for _ in range(2):  # the web page and the player each ask
            self._call(streams.is_live, self._store, self._stream_id)
        self._minute += 1
        if self.is_over:
            self._stop()

    def log_out(self) -> None:
        self._call(sessions.revoke, self._store, self._token)

    def played(self) -> Played:
        return Played(
            broadcast=self.broadcast,
            user_id=self._user_id,
            stream_id=self._stream_id,
            session_id=self._session_id,
            token=self._token,
            events_appended=self._events_appended,
        )

    def _start(self) -> None:
        plan = self.broadcast
        with self._store.transaction() as tx:
            session = self._call(
                streams.start,
                tx,
                self._stream_id,
                bitrate_kbps=plan.bitrate_kbps,
                resolution=plan.resolution,
                fps=plan.fps,
                codec=plan.codec,
                is_recorded=plan.is_recorded,
            )
            self._session_id = session.id
            if plan.is_recorded:
                recording = self._call(
                    recordings.create,
                    tx,
                    self._stream_id,
                    session_id=session.id,
                    file_path=f"/recordings/{self._stream_id}/{session.id}.mp4",
                    codec=plan.codec,
                    resolution=plan.resolution,
                    fps=plan.fps,
                    bitrate_kbps=plan.bitrate_kbps,
                )
                self._recording_id = recording.id
            self._append(tx, "StreamStarted", {"quality": plan.resolution, "codec": plan.codec})

    def _move(self, *, joined: int = 0, left: int = 0) -> None:
        if not joined and not left:
            return
        with self._store.transaction() as tx:
            self._call(stream_sessions.add_viewers, tx, self._stream_id, joined=joined, left=left)
            self._append(tx, "ViewersJoined" if joined else "ViewersLeft", {"count": joined or left})

    def _log_viewers(self, joined: int, left: int) -> None:
        entries = [("viewer_join", 0)] * joined + [("viewer_leave", 8 * MINUTE)] * left
        if entries:
            rows = self._call(
                usage.log_many,
                self._store,
                [
                    usage.UsageEntry(
                        user_id=self._user_id,
                        stream_id=self._stream_id,
                        event_type=kind,
                        duration_seconds=duration,
                    )
                    for kind, duration in entries
                ],
            )
            self._evening.count_usage(rows)

    def _stop(self) -> None:
        plan = self.broadcast
        with self._store.transaction() as tx:
            session = self._call(streams.stop, tx, self._stream_id)
            self._append(tx, "StreamStopped", {"peak_viewers": session.peak_viewers})
        if self._recording_id is not None:
            seconds = len(plan.minutes) * MINUTE
            self._call(
                recordings.finish,
                self._store,
                self._stream_id,
                self._recording_id,
                file_size_bytes=plan.bitrate_kbps * 125 * seconds,
                duration_seconds=seconds,
            )

    def _append(self, db: Db, event_type: str, data: dict[str, object]) -> None:
        self._call(events.append, db, STREAM, str(self._stream_id), event_type, data, user_id=self._user_id)
        self._events_appended += 1
