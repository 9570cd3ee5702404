"""Viewers, with times in milliseconds."""

from __future__ import annotations

from rootstream_store.db import Db
from rootstream_store.records import RankedStream, ViewerCount
from rootstream_store.repositories import viewers

__all__ = ["flush", "heartbeat", "join", "set_", "top"]


def join(db: Db, stream_id: int, viewer_id: str, expiry_ms: int) -> ViewerCount:
    """As viewers.join."""
    return viewers.join(db, stream_id, viewer_id, expiry=expiry_ms / 1000)


def heartbeat(db: Db, stream_id: int, viewer_id: str, expiry_ms: int) -> ViewerCount:
    """As viewers.heartbeat."""
    return viewers.heartbeat(db, stream_id, viewer_id, expiry=expiry_ms / 1000)


def set_(db: Db, stream_id: int, count: int, source: str, expiry_ms: int) -> ViewerCount:
    """As viewers.set."""
    return viewers.set(db, stream_id, count, source=source, expiry=expiry_ms / 1000)


def top(db: Db, limit: int, after_id: int | None, after_viewers: int | None) -> list[RankedStream]:
    """As viewers.top, with what names the last stream of the page before."""
    after = None
    if after_id is not None and after_viewers is not None:
        after = RankedStream(stream_id=after_id, viewers=after_viewers)
    return viewers.top(db, limit=limit, after=after)


def flush(db: Db) -> None:
    """As viewers.flush."""
    viewers.flush(db)
