"""Streams: the channels of users, their keys, and whether they are on air.

A stream is on air while it has an open stream session. `start` and `stop` change both in one statement.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection

import msgspec

from rootstream_store._limit import check_ids, check_limit
from rootstream_store.cache import Invalidate, keys
from rootstream_store.db import CachedQuery, Db, repository
from rootstream_store.errors import Conflict, NotFound
from rootstream_store.flow import Flow, after_commit, cached, has_cache, maybe, one
from rootstream_store.queries import query
from rootstream_store.records import CreatedStream, Record, Stream, StreamInfo, StreamSession
from rootstream_store.repositories import _live, viewers
from rootstream_store.repositories._unset import UNSET, Unset
from rootstream_store.secret import Secret

__all__ = [
    "create",
    "delete",
    "get",
    "get_by_key",
    "get_key",
    "get_many",
    "get_viewer_count",
    "is_live",
    "list_by_user",
    "list_live",
    "rotate_key",
    "start",
    "stop",
    "update",
    "update_stats",
]


class _Deleted(Record, kw_only=True):
    """What has to be told of a stream that was there."""

    is_live: bool
    key_hash: bytes
    """SHA-256 of its stream key."""


class _Keyed(StreamInfo, kw_only=True):
    """With what proves that a key is that of the stream."""

    key_hash: bytes
    """SHA-256 of its stream key."""


_MOST_HINTS = 10_000
_hints: dict[bytes, int] = {}
"""Which stream a key was of when it was last asked for. Only where to look: what is found there tells."""


def _key_hash(stream_key: str) -> bytes:
    return hashlib.sha256(stream_key.encode("utf-8", "surrogatepass")).digest()


_CREATE = query("streams/create", Stream)
_DELETE = query("streams/delete", _Deleted)
_FIND_ID_BY_KEY = CachedQuery(
    query("streams/find_id_by_key", int),
    key=lambda stream_key: keys.stream_key(_key_hash(stream_key)),
    ttl=keys.STREAM_TTL,
)
_GET = query("streams/get", Stream)
_GET_MANY = query("streams/get_many", Stream)
_GET_BY_KEY = query("streams/get_by_key", StreamInfo)
_GET_INFO = CachedQuery(query("streams/get_info", _Keyed), key=keys.stream, ttl=keys.STREAM_TTL)
_GET_KEY = query("streams/get_key", str)
_IS_LIVE = CachedQuery(query("streams/is_live", bool), key=keys.live, ttl=keys.LIVE_TTL)
_LIST_BY_USER = query("streams/list_by_user", Stream)
_LIST_LIVE = query("streams/list_live", Stream)
_ROTATE_KEY = query("streams/rotate_key", bytes)
_START = query("streams/start", StreamSession)
_UPDATE = query("streams/update", Stream)
_UPDATE_STATS = query("streams/update_stats", Stream)


@repository
def create(
    db: Db,
    user_id: int,
    *,
    name: str,
    description: str | None = None,
    stream_url: str | None = None,
    thumbnail_url: str | None = None,
    is_public: bool = True,
) -> CreatedStream:
    """A new stream of a user, off air, with a new key of 256 random bits.

    `is_public`: False keeps it out of `list_live`. Raises NotFound (no such user), InvalidInput.
    """

    def steps() -> Flow[CreatedStream]:
        key = Secret.generate()
        stream = yield from one(
            _CREATE,
            user_id=user_id,
            name=name,
            description=description,
            stream_key=key.reveal(),
            stream_url=stream_url,
            thumbnail_url=thumbnail_url,
            is_public=is_public,
        )
        # Someone may have asked for this id before it was taken, and the cache knows for a while that it is
        # not there.
        yield from after_commit(*map(Invalidate, _live.cached_of(stream.id)))
        return CreatedStream(**msgspec.structs.asdict(stream), stream_key=key)

    return db.flow(steps())


@repository
def get(db: Db, stream_id: int) -> Stream:
    """The stream with this id. Raises NotFound."""
    return db.one(_GET, stream_id=stream_id)


@repository
def get_many(db: Db, stream_ids: Collection[int]) -> list[Stream]:
    """The streams with these ids, at most 1000, in order of id, in one round trip; ids that are not there are
    left out, and those that are given twice come once. Raises InvalidInput."""
    return db.all(_GET_MANY, stream_ids=check_ids(stream_ids, "stream_ids"))


@repository
def get_by_key(db: Db, stream_key: str | Secret) -> StreamInfo:
    """The stream that an encoder with this key feeds; from Redis for up to an hour, where each change but a
    report renews it. So without the figures of the broadcast: for those see `get`.

    Raises NotFound, which does not show the key."""
    key = stream_key.reveal() if isinstance(stream_key, Secret) else stream_key

    def steps() -> Flow[StreamInfo]:
        if not (yield from has_cache()):
            return (yield from one(_GET_BY_KEY, stream_key=key))
        _FIND_ID_BY_KEY.query.check({"stream_key": key})
        key_hash = _key_hash(key)
        # Two answers: who changes a stream knows its id, but not its key.
        hint = _hints.get(key_hash)
        found = None if hint is None else (yield from cached(_GET_INFO, stream_id=hint))
        if found is None or found.key_hash != key_hash:
            stream_id = yield from cached(_FIND_ID_BY_KEY, stream_key=key)
            found = None if stream_id is None else (yield from cached(_GET_INFO, stream_id=stream_id))
            if found is None or found.key_hash != key_hash:  # the key was taken from it in between
                raise NotFound("stream", {}, query=_GET_BY_KEY.file)
            if len(_hints) >= _MOST_HINTS:
                _hints.clear()
            _hints[key_hash] = found.id
        return StreamInfo(**{name: getattr(found, name) for name in StreamInfo.__struct_fields__})

    return db.flow(steps())


@repository
def get_key(db: Db, stream_id: int) -> Secret:
    """The stream's key, to be shown to its owner only. Raises NotFound."""

    def steps() -> Flow[Secret]:
        return Secret((yield from one(_GET_KEY, stream_id=stream_id)))

    return db.flow(steps())


@repository
def rotate_key(db: Db, stream_id: int) -> Secret:
    """Gives the stream a new key, which is returned. The old one is refused from then on; a broadcast that is
    on air goes on. Raises NotFound."""

    def steps() -> Flow[Secret]:
        key = Secret.generate()
        old_hash = yield from one(_ROTATE_KEY, stream_id=stream_id, stream_key=key.reveal())
        yield from after_commit(Invalidate(keys.stream_key(old_hash)))
        return key

    # In a transaction: whose key the old one was is known before it ends, and the cache is told before.
    return db.flow(steps(), atomic=True, invalidates=[keys.stream(stream_id)])


@repository
def list_by_user(db: Db, user_id: int, *, after_id: int = 0, limit: int = 100) -> list[Stream]:
    """The user's streams in order of id, from after `after_id` on; none for a user that is not there.

    `limit`: 1 to 1000, else InvalidInput.
    """
    return db.all(_LIST_BY_USER, user_id=user_id, after_id=after_id, limit=check_limit(limit))


@repository
def list_live(db: Db, *, after_id: int = 0, limit: int = 100) -> list[Stream]:
    """The public streams on air in order of id, from after `after_id` on. `limit`: 1 to 1000, else
    InvalidInput."""
    return db.all(_LIST_LIVE, after_id=after_id, limit=check_limit(limit))


@repository
def update(
    db: Db,
    stream_id: int,
    *,
    name: str | Unset = UNSET,
    description: str | Unset | None = UNSET,
    stream_url: str | Unset | None = UNSET,
    thumbnail_url: str | Unset | None = UNSET,
    is_public: bool | Unset = UNSET,
) -> Stream:
    """Changes what is given and leaves the rest; None clears. The stream as it is now. Raises NotFound,
    InvalidInput."""
    changes = _changes(
        name=name,
        description=description,
        stream_url=stream_url,
        thumbnail_url=thumbnail_url,
        is_public=is_public,
    )
    return db.flow(one(_UPDATE, stream_id=stream_id, **changes), invalidates=[keys.stream(stream_id)])


@repository
def start(
    db: Db,
    stream_id: int,
    *,
    bitrate_kbps: int | None = None,
    resolution: str | None = None,
    fps: float | None = None,
    codec: str | None = None,
    is_recorded: bool = False,
    recording_path: str | None = None,
) -> StreamSession:
    """Puts the stream on air: opens a stream session, which is returned, resets the viewers, and logs the
    usage.

    The four of quality hold for this broadcast; None: not known. `resolution` is "1920x1080",
    `recording_path` where the broadcast is recorded. Of callers at the same time one succeeds. Publishes
    "started" on the stream's channel. Raises Conflict (already live), NotFound, InvalidInput.
    """

    def steps() -> Flow[StreamSession]:
        session = yield from maybe(
            _START,
            stream_id=stream_id,
            bitrate_kbps=bitrate_kbps,
            resolution=resolution,
            fps=fps,
            codec=codec,
            is_recorded=is_recorded,
            recording_path=recording_path,
        )
        if session is None:
            yield from one(_GET, stream_id=stream_id)
            raise Conflict(f"stream {stream_id} is already live", query=_START.file)
        yield from after_commit(*_live.gone_on_air(session))
        return session

    return db.flow(steps(), invalidates=_live.cached_of(stream_id))


@repository
def stop(db: Db, stream_id: int) -> StreamSession:
    """Takes the stream off air: closes its stream session, which is returned, with the duration by the
    database's clock, and logs the usage (bytes and seconds). Of callers at the same time one succeeds.

    Publishes "ended" on the stream's channel. Raises Conflict (not live), NotFound. To end one known session
    and never a later one, see `stream_sessions.end`.
    """
    return db.flow(_live.stop(stream_id, None), invalidates=_live.cached_of(stream_id))


@repository
def update_stats(
    db: Db,
    stream_id: int,
    *,
    viewer_count: int | Unset = UNSET,
    bitrate_kbps: int | Unset | None = UNSET,
    resolution: str | Unset | None = UNSET,
    fps: float | Unset | None = UNSET,
    codec: str | Unset | None = UNSET,
    bytes_sent: int = 0,
) -> Stream:
    """What an encoder reports of the broadcast on air; what is not given stays, None means not known.

    `viewer_count` replaces the number of viewers and raises the session's peak, and its total to at least
    the peak. `bytes_sent` is what was sent since the last report; it is added. Where joins and leaves are
    told one by one use `viewers` or `stream_sessions.add_viewers` instead, and leave it out. Raises
    Conflict (not live), NotFound, InvalidInput.
    """

    def steps() -> Flow[Stream]:
        stream = yield from maybe(
            _UPDATE_STATS,
            stream_id=stream_id,
            bytes_sent=_live.check_count("bytes_sent", bytes_sent),
            **_changes(
                viewer_count=viewer_count,
                bitrate_kbps=bitrate_kbps,
                resolution=resolution,
                fps=fps,
                codec=codec,
            ),
        )
        if stream is None:
            raise (yield from _live.not_on_air(stream_id, _UPDATE_STATS))
        return stream

    return db.flow(steps())


@repository
def is_live(db: Db, stream_id: int) -> bool:
    """Whether the stream is on air; from Redis for up to an hour, where start, stop and delete renew it.
    Raises NotFound."""

    def steps() -> Flow[bool]:
        live = yield from cached(_IS_LIVE, stream_id=stream_id)
        if live is None:
            raise NotFound("stream", {"stream_id": stream_id}, query=_IS_LIVE.query.file)
        return live

    return db.flow(steps())


@repository
def get_viewer_count(db: Db, stream_id: int) -> int:
    """How many watch the stream now; 0 while off air. `viewers.get` tells more. Raises NotFound."""

    def steps() -> Flow[int]:
        return (yield from viewers.figures(stream_id)).current

    return db.flow(steps())


@repository
def delete(db: Db, stream_id: int) -> None:
    """Deletes the stream with its sessions and recordings; usage logs stay. If it is on air, that ends: the
    usage is logged and "ended" is published. Raises NotFound."""

    def steps() -> Flow[None]:
        deleted = yield from one(_DELETE, stream_id=stream_id)
        yield from after_commit(Invalidate(keys.stream_key(deleted.key_hash)))
        if deleted.is_live:
            yield from after_commit(*_live.deleted_on_air(stream_id))

    return db.flow(steps(), atomic=True, invalidates=_live.cached_of(stream_id))


def _changes(**values: object) -> dict[str, object]:
    """For each value two parameters: set_<name>, whether it was given, and the value itself."""
    parameters: dict[str, object] = {f"set_{name}": value is not UNSET for name, value in values.items()}
    parameters.update((name, None if value is UNSET else value) for name, value in values.items())
    return parameters
