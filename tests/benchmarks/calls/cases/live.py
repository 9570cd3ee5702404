"""What Redis answers, from its own structures or from the cache."""

from __future__ import annotations

from rootstream_store import live, sessions, streams, users, viewers

from ._case import collect, fresh, steady

__all__ = ["LIVE"]

CHANGES = {"title": "Chess", "viewers": 150}

LIVE = collect(
    steady("users.get", lambda db, w: users.get(db, w.user_id)),
    steady("sessions.validate", lambda db, w: sessions.validate(db, w.token)),
    steady("streams.is_live", lambda db, w: streams.is_live(db, w.stream_id)),
    steady("streams.get_by_key", lambda db, w: streams.get_by_key(db, w.key)),
    steady("streams.get_viewer_count", lambda db, w: streams.get_viewer_count(db, w.stream_id)),
    fresh(
        "viewers.join",
        lambda tx, w: (w.stream_id, f"viewer{next(w.numbers)}"),
        lambda db, of: viewers.join(db, *of),
    ),
    steady("viewers.heartbeat", lambda db, w: viewers.heartbeat(db, w.stream_id, "ann")),
    steady("viewers.leave", lambda db, w: viewers.leave(db, w.stream_id, "bob")),
    steady("viewers.set", lambda db, w: viewers.set(db, w.stream_id, 150)),
    steady("viewers.get", lambda db, w: viewers.get(db, w.stream_id)),
    steady("viewers.top", lambda db, w: viewers.top(db, limit=100)),
    steady("viewers.flush", lambda db, w: viewers.flush(db)),
    steady("live.publish", lambda db, w: live.publish(db, live.UserUpdated(user_id=w.user_id, change="x"))),
    steady("live.update_state", lambda db, w: live.update_state(db, w.stream_id, CHANGES)),
    steady("live.push_state", lambda db, w: live.push_state(db, w.stream_id, CHANGES)),
    steady("live.get_state", lambda db, w: live.get_state(db, w.stream_id)),
    steady("live.delete_state", lambda db, w: live.delete_state(db, w.stream_id)),
)
