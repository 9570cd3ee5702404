"""Recordings: files recorded from a stream. The rows are kept here; the files are the caller's.

A recording is named by its stream and its own id.
"""

from __future__ import annotations

from datetime import datetime

from rootstream_store._limit import check_limit
from rootstream_store.db import Db, repository
from rootstream_store.flow import Flow, one
from rootstream_store.queries import query
from rootstream_store.records import Recording

__all__ = [
    "create",
    "delete",
    "finish",
    "get",
    "list_by_session",
    "list_by_stream",
    "list_expired",
    "mark_processed",
    "set_available",
]

_CREATE = query("recordings/create", Recording)
_DELETE = query("recordings/delete", int)
_FINISH = query("recordings/finish", Recording)
_GET = query("recordings/get", Recording)
_LIST_BY_SESSION = query("recordings/list_by_session", Recording)
_LIST_BY_STREAM = query("recordings/list_by_stream", Recording)
_LIST_EXPIRED = query("recordings/list_expired", Recording)
_MARK_PROCESSED = query("recordings/mark_processed", Recording)
_SET_AVAILABLE = query("recordings/set_available", Recording)


@repository
def create(
    db: Db,
    stream_id: int,
    *,
    file_path: str,
    session_id: int | None = None,
    codec: str | None = None,
    resolution: str | None = None,
    fps: float | None = None,
    bitrate_kbps: int | None = None,
    expires_at: datetime | None = None,
) -> Recording:
    """A new recording, of 0 bytes and seconds until `finish`.

    `file_path` is unique within the stream. `session_id`: the time on air it comes from; None: not known. The
    four of quality: None: not known. `expires_at`: from then on it may be deleted; None: it is kept. Raises
    NotFound (no such stream, or no such session of it), AlreadyExists (file_path), InvalidInput.
    """
    return db.one(
        _CREATE,
        stream_id=stream_id,
        session_id=session_id,
        file_path=file_path,
        codec=codec,
        resolution=resolution,
        fps=fps,
        bitrate_kbps=bitrate_kbps,
        expires_at=expires_at,
    )


@repository
def get(db: Db, stream_id: int, recording_id: int) -> Recording:
    """This recording of this stream. Raises NotFound."""
    return db.one(_GET, stream_id=stream_id, recording_id=recording_id)


@repository
def list_by_stream(db: Db, stream_id: int, *, after_id: int = 0, limit: int = 100) -> list[Recording]:
    """The stream's recordings in order of id, from after `after_id` on. `limit`: 1 to 1000, else
    InvalidInput."""
    return db.all(_LIST_BY_STREAM, stream_id=stream_id, after_id=after_id, limit=check_limit(limit))


@repository
def list_by_session(
    db: Db, stream_id: int, session_id: int, *, after_id: int = 0, limit: int = 100
) -> list[Recording]:
    """The recordings of one time on air in order of id, from after `after_id` on. `limit`: 1 to 1000, else
    InvalidInput."""
    return db.all(
        _LIST_BY_SESSION,
        stream_id=stream_id,
        session_id=session_id,
        after_id=after_id,
        limit=check_limit(limit),
    )


@repository
def list_expired(db: Db, *, now: datetime | None = None, limit: int = 100) -> list[Recording]:
    """Recordings of all streams that may be deleted, the longest expired first. Ask again after deleting
    them.

    `now`: the time to ask for; None: the database's clock. `limit`: 1 to 1000, else InvalidInput.
    """
    return db.all(_LIST_EXPIRED, now=now, limit=check_limit(limit))


@repository
def finish(
    db: Db, stream_id: int, recording_id: int, *, file_size_bytes: int, duration_seconds: int
) -> Recording:
    """The file is complete: records its size in bytes and its length in whole seconds. May be repeated.
    Raises NotFound, InvalidInput."""
    return db.one(
        _FINISH,
        stream_id=stream_id,
        recording_id=recording_id,
        file_size_bytes=file_size_bytes,
        duration_seconds=duration_seconds,
    )


@repository
def mark_processed(db: Db, stream_id: int, recording_id: int) -> Recording:
    """Transcoding and thumbnails are done. May be repeated. Raises NotFound."""
    return db.one(_MARK_PROCESSED, stream_id=stream_id, recording_id=recording_id)


@repository
def set_available(db: Db, stream_id: int, recording_id: int, *, is_available: bool) -> Recording:
    """Shows the recording, or hides it. Raises NotFound."""
    return db.one(_SET_AVAILABLE, stream_id=stream_id, recording_id=recording_id, is_available=is_available)


@repository
def delete(db: Db, stream_id: int, recording_id: int) -> None:
    """Deletes the recording's row; delete the file first, since its path is gone with it. Raises NotFound."""

    def steps() -> Flow[None]:
        yield from one(_DELETE, stream_id=stream_id, recording_id=recording_id)

    return db.flow(steps())
