"""One streamer, and what they and their viewers do on the store."""

from __future__ import annotations

from dataclasses import dataclass

from rootstream_store import events
from rootstream_store.db import Db
from rootstream_store.demo.audience import Audience
from rootstream_store.demo.meter import Meter
from rootstream_store.demo.script import MINUTE, Broadcast
from rootstream_store.records import ViewerFigures
from rootstream_store.repositories import billing, recordings, sessions, streams, usage, users, viewers
from rootstream_store.secret import Secret
from rootstream_store.store import Store

__all__ = ["STREAM", "Cast", "Played"]

STREAM = "stream"
"""The aggregate type of a stream's events."""


@dataclass(frozen=True, kw_only=True)
class Played:
    """What came of one broadcast: the keys under which the tables hold it."""

    broadcast: Broadcast
    user_id: int
    stream_id: int
    session_id: int
    viewers: ViewerFigures | None
    """As Redis had them just before the stop. None: it was not played to its end."""
    token: Secret
    events_appended: int


class Cast:
    """One broadcast on its way. Every change and the event that tells of it are one transaction; but viewers
    are counted in Redis, and their event tells of them in sum."""

    def __init__(self, store: Store, meter: Meter, broadcast: Broadcast, run_id: str) -> None:
        self.broadcast = broadcast
        self.usage_rows = 0
        """Copied until now."""
        self._store = store
        self._meter = meter
        self._call = meter.call
        self._run_id = run_id
        self._minute = 0
        self._user_id = self._stream_id = self._session_id = 0
        self._recording_id: int | None = None
        self._token = Secret("")
        self._events_appended = 0
        self._audience: Audience | None = None
        self._viewers: ViewerFigures | None = None

    @property
    def is_over(self) -> bool:
        """Whether all of the script was played."""
        return self._minute == len(self.broadcast.minutes)

    def sign_up(self) -> None:
        """An account, a login and a stream, before the evening begins."""
        username = f"{self.broadcast.username}_{self._run_id}"
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
        """The next step of the script; the first one goes on air, the last one off air."""
        self._call(sessions.validate, self._store, self._token)
        if self._minute == 0:
            self._start()
        minute = self.broadcast.minutes[self._minute]
        self._move(joined=minute.joined, left=minute.left)
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
        """Ends the login."""
        self._call(sessions.revoke, self._store, self._token)

    def played(self) -> Played:
        """What came of it."""
        return Played(
            broadcast=self.broadcast,
            user_id=self._user_id,
            stream_id=self._stream_id,
            session_id=self._session_id,
            viewers=self._viewers,
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

    def _move(self, *, joined: int, left: int) -> None:
        audience = self._audience
        if audience is None:
            audience = self._audience = Audience(self._store, self._meter, self._stream_id)
        audience.stay(self._minute)
        audience.come(joined)
        audience.go(left)
        for number, event in ((joined, "ViewersJoined"), (left, "ViewersLeft")):
            if number:
                self._append(self._store, event, {"count": number})

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
            self.usage_rows += rows

    def _stop(self) -> None:
        plan = self.broadcast
        self._viewers = self._call(viewers.get, self._store, self._stream_id)
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
