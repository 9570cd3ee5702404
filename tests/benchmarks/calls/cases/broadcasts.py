"""Streams, their times on air, recordings, and the figures of viewers that PostgreSQL has."""

from __future__ import annotations

from datetime import UTC, datetime

from rootstream_store import recordings, stream_sessions, streams, viewers
from rootstream_store.db import Db

from ....factories import make_stream, make_stream_session
from .._world import PAGE, World
from ._case import collect, fresh, steady

__all__ = ["BROADCASTS"]


NOW = datetime(2090, 1, 1, tzinfo=UTC)
"""When all recordings have expired."""


def _recording(db: Db, of: tuple[World, int]) -> object:
    world, number = of
    return recordings.create(
        db,
        world.stream_id,
        file_path=f"/recordings/new{number}.mp4",
        session_id=world.session_id,
        codec="h264",
    )


BROADCASTS = collect(
    fresh("streams.create", lambda tx, w: w.other_id, lambda db, user: streams.create(db, user, name="new")),
    steady("streams.get", lambda db, w: streams.get(db, w.stream_id)),
    steady("streams.get_many", lambda db, w: streams.get_many(db, range(1, 101))),
    steady("streams.get_by_key", lambda db, w: streams.get_by_key(db, w.key)),
    steady("streams.get_key", lambda db, w: streams.get_key(db, w.stream_id)),
    fresh("streams.rotate_key", lambda tx, w: make_stream(tx, w.other_id).id, streams.rotate_key),
    steady("streams.list_by_user", lambda db, w: streams.list_by_user(db, w.user_id, limit=PAGE)),
    steady("streams.list_live", lambda db, w: streams.list_live(db, limit=PAGE)),
    steady("streams.update", lambda db, w: streams.update(db, w.stream_id, name="another")),
    fresh("streams.start", lambda tx, w: make_stream(tx, w.other_id).id, streams.start),
    fresh("streams.stop", lambda tx, w: make_stream_session(tx).stream_id, streams.stop),
    steady(
        "streams.update_stats",
        lambda db, w: streams.update_stats(db, w.stream_id, viewer_count=150, bitrate_kbps=6000, fps=59.94),
    ),
    steady("streams.is_live", lambda db, w: streams.is_live(db, w.stream_id)),
    steady("streams.get_viewer_count", lambda db, w: streams.get_viewer_count(db, w.stream_id)),
    fresh("streams.delete", lambda tx, w: make_stream(tx, w.other_id).id, streams.delete),
    steady("stream_sessions.get", lambda db, w: stream_sessions.get(db, w.stream_id, w.session_id)),
    steady("stream_sessions.get_current", lambda db, w: stream_sessions.get_current(db, w.stream_id)),
    steady("stream_sessions.find_current", lambda db, w: stream_sessions.find_current(db, w.stream_id)),
    steady("stream_sessions.list_", lambda db, w: stream_sessions.list_(db, w.stream_id, limit=PAGE)),
    steady(
        "stream_sessions.add_viewers", lambda db, w: stream_sessions.add_viewers(db, w.stream_id, joined=1)
    ),
    steady("stream_sessions.add_bytes", lambda db, w: stream_sessions.add_bytes(db, w.stream_id, 1_000_000)),
    fresh(
        "stream_sessions.end",
        lambda tx, w: make_stream_session(tx),
        lambda db, session: stream_sessions.end(db, session.stream_id, session.id),
    ),
    fresh("recordings.create", lambda tx, w: (w, next(w.numbers)), _recording),
    steady("recordings.get", lambda db, w: recordings.get(db, w.stream_id, w.recording_id)),
    steady("recordings.list_by_stream", lambda db, w: recordings.list_by_stream(db, w.stream_id, limit=PAGE)),
    steady(
        "recordings.list_by_session",
        lambda db, w: recordings.list_by_session(db, w.stream_id, w.session_id, limit=PAGE),
    ),
    steady("recordings.list_expired", lambda db, w: recordings.list_expired(db, now=NOW, limit=PAGE)),
    steady(
        "recordings.finish",
        lambda db, w: recordings.finish(
            db, w.stream_id, w.recording_id, file_size_bytes=10**9, duration_seconds=3600
        ),
    ),
    steady(
        "recordings.mark_processed", lambda db, w: recordings.mark_processed(db, w.stream_id, w.recording_id)
    ),
    steady(
        "recordings.set_available",
        lambda db, w: recordings.set_available(db, w.stream_id, w.recording_id, is_available=True),
    ),
    fresh(
        "recordings.delete",
        lambda tx, w: _recording(tx, (w, next(w.numbers))),
        lambda db, made: recordings.delete(db, made.stream_id, made.id),
    ),
    steady("viewers.get", lambda db, w: viewers.get(db, w.stream_id)),
    steady("viewers.top", lambda db, w: viewers.top(db, limit=PAGE)),
)
