"""What streams and stream_sessions share: the end of a broadcast, messages to Redis, refusals."""

from __future__ import annotations

from typing import Any

from rootstream_store import live
from rootstream_store.cache import Delete, Effect, Expire, Invalidate, Publish, keys
from rootstream_store.errors import Conflict, InvalidInput
from rootstream_store.flow import Flow, after_commit, maybe, one
from rootstream_store.queries import Query, query
from rootstream_store.records import Stream, StreamSession
from rootstream_store.repositories import _viewer_ranking, _viewer_scripts
from rootstream_store.repositories._viewer_flush import last_figures

__all__ = [
    "cached_of",
    "check_count",
    "deleted_on_air",
    "gone_off_air",
    "gone_on_air",
    "not_on_air",
    "revoked",
    "stop",
]

_GET = query("streams/get", Stream)
_GET_SESSION = query("stream_sessions/get", StreamSession)
_STOP = query("streams/stop", StreamSession)


def check_count(field: str, value: int) -> int:
    """`value`. Raises InvalidInput when it is not an integer of at least 0: what is added up must not take
    away."""
    if type(value) is not int or value < 0:
        raise InvalidInput(field, "must be an integer of at least 0", value)
    return value


def cached_of(stream_id: int) -> tuple[str, ...]:
    """The keys of what is cached of a stream, which a start, an end and a delete make untrue."""
    return keys.live(stream_id), keys.stream(stream_id), keys.on_air(stream_id)


def gone_on_air(session: StreamSession) -> tuple[Effect, ...]:
    """What is told when a broadcast has begun."""
    started = live.StreamStarted(
        stream_id=session.stream_id, session_id=session.id, started_at=session.session_start
    )
    return Publish(keys.events(session.stream_id), "started"), live.announce(started)


def gone_off_air(session: StreamSession) -> tuple[Effect, ...]:
    """What is told when a broadcast has ended. Its live state ends soon, but not before all have read it."""
    stopped = live.StreamStopped(
        stream_id=session.stream_id,
        session_id=session.id,
        ended_at=session.session_end,
        duration_seconds=session.duration_seconds,
        peak_viewers=session.peak_viewers,
    )
    return (
        _viewer_scripts.forget(session.stream_id, session.id),
        _viewer_ranking.unrank(session.stream_id),
        Publish(keys.events(session.stream_id), "ended"),
        Expire(keys.state(session.stream_id), live.ENDED_STATE_TTL),
        live.announce(stopped),
    )


def deleted_on_air(stream_id: int) -> tuple[Effect, ...]:
    """What is told when a stream on air was deleted."""
    return (
        _viewer_scripts.forget(stream_id, None),
        _viewer_ranking.unrank(stream_id),
        Publish(keys.events(stream_id), "ended"),
        Delete(keys.state(stream_id)),
        live.announce(live.StreamStopped(stream_id=stream_id, is_deleted=True)),
    )


def revoked(user_id: int, token_hash: bytes) -> tuple[Effect, ...]:
    """What a login session that has ended needs: nobody may be answered from the cache, and all are told."""
    message = live.SessionRevoked(user_id=user_id, session_id=live.session_id(token_hash))
    return Invalidate(keys.session(token_hash)), live.announce(message)


def not_on_air(stream_id: int, refused: Query[Any]) -> Flow[Conflict]:
    """The error for a statement that found no open session. Raises NotFound when there is no such stream."""
    yield from one(_GET, stream_id=stream_id)
    return Conflict(f"stream {stream_id} is not live", query=refused.file)


def stop(stream_id: int, session_id: int | None) -> Flow[StreamSession]:
    """Ends the broadcast; with a session_id only if that is the one on air. Raises Conflict, NotFound."""
    viewers = yield from last_figures(stream_id)
    session = yield from maybe(_STOP, stream_id=stream_id, session_id=session_id, **viewers)
    if session is not None:
        yield from after_commit(*gone_off_air(session))
        return session
    if session_id is None:
        raise (yield from not_on_air(stream_id, _STOP))
    yield from one(_GET_SESSION, stream_id=stream_id, session_id=session_id)
    raise Conflict(f"stream session {session_id} of stream {stream_id} has ended already", query=_STOP.file)
