"""Stream sessions: each time a stream was on air, with its viewers and bytes. `streams.start` opens one.

The session on air is the open one; a stream has at most one. The figures of an ended session never change
again.
"""

from __future__ import annotations

from rootstream_store._limit import check_limit
from rootstream_store.db import Db, repository
from rootstream_store.errors import Conflict, InvalidInput
from rootstream_store.flow import Flow, maybe, one
from rootstream_store.queries import query
from rootstream_store.records import Stream, StreamSession
from rootstream_store.repositories import _live

__all__ = ["add_bytes", "add_viewers", "end", "find_current", "get", "get_current", "list_"]

_ADD_BYTES = query("stream_sessions/add_bytes", int)
_ADD_VIEWERS = query("stream_sessions/add_viewers", int)
_GET = query("stream_sessions/get", StreamSession)
_GET_CURRENT = query("stream_sessions/get_current", StreamSession)
_GET_STREAM = query("streams/get", Stream)
_LIST = query("stream_sessions/list", StreamSession)


@repository
def get(db: Db, stream_id: int, session_id: int) -> StreamSession:
    """This session of this stream. Raises NotFound."""
    return db.one(_GET, stream_id=stream_id, session_id=session_id)


@repository
def get_current(db: Db, stream_id: int) -> StreamSession:
    """The session on air. Raises NotFound when the stream is off air or not there."""
    return db.one(_GET_CURRENT, stream_id=stream_id)


@repository
def find_current(db: Db, stream_id: int) -> StreamSession | None:
    """The session on air. None: the stream is off air, or not there."""
    return db.maybe(_GET_CURRENT, stream_id=stream_id)


@repository
def list_(db: Db, stream_id: int, *, before_id: int | None = None, limit: int = 100) -> list[StreamSession]:
    """The stream's sessions, the newest first, from before the session `before_id` on (None: from the
    newest).

    `limit`: 1 to 1000, else InvalidInput.
    """
    return db.all(_LIST, stream_id=stream_id, before_id=before_id, limit=check_limit(limit))


@repository
def add_viewers(db: Db, stream_id: int, *, joined: int = 0, left: int = 0) -> int:
    """Counts viewers who joined and who left, and returns how many watch now. Calls at the same time add
    up. Each call writes to PostgreSQL; for viewers with names, at little cost, and none counted twice, see
    `viewers`.

    Raises the session's total by `joined`, and its peak to the number who watch after both. Raises Conflict
    (not live, or more would leave than watch), NotFound, InvalidInput.
    """

    def steps() -> Flow[int]:
        counts = {"joined": _live.check_count("joined", joined), "left": _live.check_count("left", left)}
        watching = yield from maybe(_ADD_VIEWERS, stream_id=stream_id, **counts)
        if watching is None:
            stream = yield from one(_GET_STREAM, stream_id=stream_id)
            if not stream.is_live or joined >= left:
                raise (yield from _live.not_on_air(stream_id, _ADD_VIEWERS))
            raise Conflict(
                f"stream {stream_id} has {stream.viewer_count} viewers, {joined} joined: {left} cannot leave",
                query=_ADD_VIEWERS.file,
            )
        return watching

    return db.flow(steps())


@repository
def add_bytes(db: Db, stream_id: int, count: int) -> int:
    """Adds `count` bytes to what the session on air has sent, and returns the sum. Calls at the same time add
    up.

    Raises Conflict (not live), NotFound, InvalidInput.
    """

    def steps() -> Flow[int]:
        total = yield from maybe(_ADD_BYTES, stream_id=stream_id, count=_live.check_count("count", count))
        if total is None:
            raise (yield from _live.not_on_air(stream_id, _ADD_BYTES))
        return total

    return db.flow(steps())


@repository
def end(db: Db, stream_id: int, session_id: int) -> StreamSession:
    """Ends this session and takes the stream off air, as `streams.stop` does, but never a later session: for
    a server that knows which broadcast it lost. Raises Conflict (it has ended already), NotFound,
    InvalidInput."""
    if type(session_id) is not int:
        # None would end whichever is on air.
        raise InvalidInput("session_id", "must be an integer", repr(session_id))
    return db.flow(_live.stop(stream_id, session_id), invalidates=_live.cached_of(stream_id))
