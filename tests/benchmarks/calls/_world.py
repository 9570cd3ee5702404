"""What is in the database before anything is measured: full pages, and one of everything to ask for."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

import psycopg

from rootstream_store import (
    Secret,
    Store,
    billing,
    events,
    maintenance,
    recordings,
    sessions,
    streams,
    usage,
)
from rootstream_store.db import Db
from rootstream_store.events import Fold, NewEvent
from rootstream_store.queries import query
from rootstream_store.records import Event
from rootstream_store.repositories.usage import UsageEntry

from ...factories import make_stream, make_user

__all__ = ["DATA", "PAGE", "World", "make_aggregate", "make_parked", "make_rejected", "make_subscription"]

PAGE: Final = 100
"""Rows of everything of which there are pages."""
DATA: Final = {"quality": "1080p60", "codec": "h264", "bitrate_kbps": 6000, "viewers": 150}
"""Of an event."""
EXPIRES: Final = datetime(2080, 1, 1, tzinfo=UTC)

_CREATE_SUBSCRIPTION = query("subscriptions/create")
_PARK = query("subscriptions/park")
_REJECT = query("capi/reject")


def count(state: dict[str, int], event: Event) -> dict[str, int]:
    """A fold that costs next to nothing."""
    return {"events": state["events"] + 1}


@dataclass(kw_only=True)
class World:
    """Ids of what is there. Nothing that is measured may change what another asks for."""

    user_id: int
    """With a page of streams, login sessions and events, and a billing account."""
    username: str
    email: str
    other_id: int
    """A user that has login sessions made and ended."""
    idle_id: int
    """A user without login sessions."""
    token: Secret
    """Of a login session of `user_id`."""
    key: Secret
    """Of the stream."""
    stream_id: int
    """On air, with a page of sessions."""
    session_id: int
    """On air."""
    recording_id: int
    """Of that stream and session, as a page of others."""
    position: int
    """Of an event of the aggregate."""
    aggregate: tuple[str, str] = ("Stream", "page")
    """Of 150 events and a snapshot of the first 140, all caused by the user."""
    fold: Fold[dict[str, int]] = field(default_factory=lambda: Fold(count, lambda: {"events": 0}))
    subscription: str = "bench"
    """With a page of parked events."""
    replayed: str = "replayed"
    """A subscription that is reset."""
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    """For names that are not there yet."""

    @classmethod
    def build(cls, store: Store) -> World:
        """In a migrated database with nothing in it."""
        maintenance.run(store)
        with store.transaction() as tx:
            made = _build(tx)
        # A seal takes what is committed.
        events.seal(store)
        with psycopg.connect(store.settings.database_url, autocommit=True) as connection:
            connection.execute("ANALYZE")
        return cls(**made)


def make_aggregate(db: Db, world: World) -> str:
    """The id of a new aggregate of type Stream with one event."""
    aggregate_id = f"made{next(world.numbers)}"
    events.append(db, "Stream", aggregate_id, "Started", DATA)
    return aggregate_id


def make_subscription(db: Db, name: str) -> str:
    """A subscription that nobody reads."""
    db.run(_CREATE_SUBSCRIPTION, name=name, partitions=1, position=0)
    return name


def make_parked(db: Db, name: str, position: int) -> None:
    """An event that the subscription has given up."""
    db.run(
        _PARK,
        name=name,
        position=position,
        partition=0,
        aggregate_type="Stream",
        aggregate_id="page",
        event_type="Changed",
        attempts=3,
        error_class="ValueError",
        error_text="a value that cannot be handled",
    )


def make_rejected(db: Db) -> None:
    """An event of native code that could not be stored."""
    db.run(
        _REJECT,
        writer=uuid4(),
        aggregate_type="Stream",
        aggregate_id="page",
        event_type="Changed",
        event_data=b"{",
        metadata=None,
        user_id=None,
        sqlstate="22P02",
        error_text="no JSON",
    )


def _build(tx: Db) -> dict[str, Any]:
    ann, other, idle, *_ = (make_user(tx) for _ in range(PAGE))
    for name in range(PAGE):
        stream = make_stream(tx, ann.id, name=f"stream {name}")
        streams.start(tx, stream.id)
    session = _sessions_of(tx, stream.id)
    tokens = [sessions.create(tx, ann.id, device_id="phone").token for _ in range(PAGE)]
    recording_ids = [
        recordings.create(
            tx,
            stream.id,
            file_path=f"/recordings/{name}.mp4",
            session_id=session,
            codec="h264",
            expires_at=EXPIRES,
        ).id
        for name in range(PAGE)
    ]
    billing.open(tx, ann.id, monthly_limit_gb=1000)
    entry = UsageEntry(
        user_id=ann.id, event_type="viewer_leave", stream_id=stream.id, bytes_transferred=1_000_000
    )
    usage.log_many(tx, [entry] * PAGE)
    new = [NewEvent("Changed", {**DATA, "viewers": number}, None, ann.id) for number in range(150)]
    appended = events.append_many(tx, "Stream", "page", new)
    events.save_snapshot(tx, "Stream", "page", version=140, state={"events": 140})
    for subscription in ("bench", "replayed"):
        make_subscription(tx, subscription)
    for one in appended[:PAGE]:
        make_parked(tx, "bench", one.position)
    for _ in range(PAGE):
        make_rejected(tx)
    return {
        "user_id": ann.id,
        "username": ann.username,
        "email": ann.email,
        "other_id": other.id,
        "idle_id": idle.id,
        "token": tokens[0],
        "key": streams.get_key(tx, stream.id),
        "stream_id": stream.id,
        "session_id": session,
        "recording_id": recording_ids[0],
        "position": appended[0].position,
    }


def _sessions_of(tx: Db, stream_id: int) -> int:
    """The id of the session on air of a stream that has had a page of them; it is on air already."""
    for _ in range(PAGE):
        streams.stop(tx, stream_id)
        session = streams.start(tx, stream_id)
    return session.id
