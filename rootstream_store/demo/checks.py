"""Whether the servers hold what the script did. Each check reads back and compares; each can fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import redis

from rootstream_store import events
from rootstream_store.cache import keys
from rootstream_store.demo.cast import STREAM, Played
from rootstream_store.demo.evening import Evening
from rootstream_store.errors import AuthenticationFailed
from rootstream_store.records import Event
from rootstream_store.repositories import recordings, sessions, stream_sessions, streams, usage, viewers
from rootstream_store.store import Store

__all__ = ["Check", "check_evening"]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that must hold. `problems` says what does not, empty when all is well."""

    name: str
    compared: int
    problems: list[str]

    @property
    def ok(self) -> bool:
        """True when something was compared and nothing differed."""
        return self.compared > 0 and not self.problems


@dataclass
class _Rebuilt:
    """A stream's state folded from its events."""

    is_live: bool = False
    total_viewers: int = 0
    peak_viewers: int = 0
    bytes_sent: int = 0
    present: int = 0

    def apply(self, event: Event) -> None:
        data = event.event_data
        match event.event_type:
            case "StreamStarted":
                self.is_live = True
            case "ViewersJoined":
                self.total_viewers += data["count"]
                self.present += data["count"]
                self.peak_viewers = max(self.peak_viewers, self.present)
            case "ViewersLeft":
                self.present -= data["count"]
            case "BytesSent":
                self.bytes_sent += data["bytes"]
            case "StreamStopped":
                self.is_live = False
                self.present = 0


def check_evening(evening: Evening, played: list[Played]) -> list[Check]:
    """All checks, in the order they are shown."""
    store = evening.store
    each: list[tuple[str, Callable[[Store, Played], list[str]]]] = [
        ("no event is missing or doubled", _events_complete),
        ("a subscription got each event once and in order", partial(_all_delivered, evening)),
        ("state rebuilt from the event log equals the tables", _rebuilt_equals_tables),
        ("usage sums equal what was sent", _usage_equals_script),
        ("peak and total viewers equal what the script did", _viewers_equal_script),
        ("viewers in Redis and PostgreSQL agree", _viewers_agree),
        ("listeners got each start and stop once", partial(_all_heard, evening)),
        ("recordings have the size and length of the script", _recordings_equal_script),
        ("no live stream is left in Redis", _nothing_live),
        ("logged-out tokens are refused", _token_refused),
    ]
    return [
        Check(name=name, compared=len(played), problems=[text for one in played for text in find(store, one)])
        for name, find in each
    ]


def _events_complete(store: Store, one: Played) -> list[str]:
    with events.stream(store, STREAM, str(one.stream_id)) as found:
        versions = [event.version for event in found]
    return _differences(one, {"versions": (versions, list(range(1, one.events_appended + 1)))})


def _all_delivered(evening: Evening, _: Store, one: Played) -> list[str]:
    delivered = evening.delivered.get(str(one.stream_id), [])
    return _differences(one, {"delivered": (delivered, list(range(1, one.events_appended + 1)))})


def _rebuilt_equals_tables(store: Store, one: Played) -> list[str]:
    state = _Rebuilt()
    with events.stream(store, STREAM, str(one.stream_id)) as found:
        for event in found:
            state.apply(event)
    stream = streams.get(store, one.stream_id)
    session = stream_sessions.get(store, one.stream_id, one.session_id)
    return _differences(
        one,
        {
            "is_live": (stream.is_live, state.is_live),
            "viewer_count": (stream.viewer_count, state.present),
            "total_viewers": (session.total_viewers, state.total_viewers),
            "peak_viewers": (session.peak_viewers, state.peak_viewers),
            "total_bytes_sent": (session.total_bytes_sent, state.bytes_sent),
        },
    )


def _usage_equals_script(store: Store, one: Played) -> list[str]:
    now = datetime.now(UTC)
    total = usage.total_by_user(
        store, one.user_id, since=now - timedelta(days=1), until=now + timedelta(days=1)
    )
    plan = one.broadcast
    # stream_start and stream_end, and one entry for each viewer who came or went.
    entries = 2 + plan.total_viewers + plan.departures
    return _differences(
        one,
        {"entries": (total.events, entries), "bytes_transferred": (total.bytes_transferred, plan.bytes_sent)},
    )


def _viewers_equal_script(store: Store, one: Played) -> list[str]:
    session = stream_sessions.get(store, one.stream_id, one.session_id)
    plan = one.broadcast
    return _differences(
        one,
        {
            "peak_viewers": (session.peak_viewers, plan.peak_viewers),
            "total_viewers": (session.total_viewers, plan.total_viewers),
        },
    )


def _viewers_agree(store: Store, one: Played) -> list[str]:
    counted = one.viewers
    if counted is None or not counted.is_from_redis:
        return [f"stream {one.stream_id}: Redis had no viewers at the stop"]
    session = stream_sessions.get(store, one.stream_id, one.session_id)
    left: Any = store.redis.exists(*keys.viewer_keys(one.stream_id)[1:])
    return _differences(
        one,
        {
            "session_id": (counted.session_id, session.id),
            "current": (counted.current, one.broadcast.total_viewers - one.broadcast.departures),
            "peak": (counted.peak, session.peak_viewers),
            # Estimated, so that it may be one or two more than there were.
            "unique": (min(counted.unique, session.total_viewers), session.unique_viewers),
            "viewers now": (viewers.get(store, one.stream_id).current, 0),
            "keys left": (left, 0),
        },
    )


def _all_heard(evening: Evening, _: Store, one: Played) -> list[str]:
    heard = evening.heard.get(one.stream_id, [])
    return _differences(
        one,
        {
            "heard": (heard, [("started", one.session_id), ("stopped", one.session_id)]),
            "gaps": (evening.gaps, []),
        },
    )


def _recordings_equal_script(store: Store, one: Played) -> list[str]:
    plan = one.broadcast
    seconds = len(plan.minutes) * 60
    expected = [(plan.bitrate_kbps * 125 * seconds, seconds)] if plan.is_recorded else []
    found = recordings.list_by_stream(store, one.stream_id)
    return _differences(
        one, {"recordings": ([(file.file_size_bytes, file.duration_seconds) for file in found], expected)}
    )


def _nothing_live(store: Store, one: Played) -> list[str]:
    left: dict[str, tuple[object, object]] = {}
    if store.settings.redis_url:
        try:
            # Read before is_live, which fills the key with what PostgreSQL says.
            cached: Any = store.redis.get(keys.live(one.stream_id))
            left["cached as live"] = (b"true" in (cached or b""), False)
        except redis.RedisError as error:
            return [f"stream {one.stream_id}: Redis cannot be asked: {type(error).__name__}"]
    left["is_live"] = (streams.is_live(store, one.stream_id), False)
    left["viewer count"] = (streams.get_viewer_count(store, one.stream_id), 0)
    return _differences(one, left)


def _token_refused(store: Store, one: Played) -> list[str]:
    try:
        sessions.validate(store, one.token)
    except AuthenticationFailed:
        return []
    return [f"stream {one.stream_id}: the token is still valid"]


def _differences(one: Played, values: dict[str, tuple[object, object]]) -> list[str]:
    return [
        f"stream {one.stream_id}: {name} is {found}, expected {expected}"
        for name, (found, expected) in values.items()
        if found != expected
    ]
