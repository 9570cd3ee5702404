"""Tombstones: an aggregate that has come to its end accepts no further event."""

from __future__ import annotations

from rootstream_store.db import Db, repository
from rootstream_store.errors import InvalidInput, NotFound, VersionConflict
from rootstream_store.events._keys import id_text
from rootstream_store.events._new_event import ANY, EXISTS, Expected
from rootstream_store.flow import Flow, maybe
from rootstream_store.queries import query
from rootstream_store.records import AggregateHead

__all__ = ["close", "reopen"]

_CLOSE = query("events/close", AggregateHead)
_REOPEN = query("events/reopen", AggregateHead)
_FIND_HEAD = query("events/find_head", AggregateHead)


@repository
def close(
    db: Db, aggregate_type: str, aggregate_id: str | int, *, expected: int | Expected = ANY
) -> AggregateHead:
    """Closes an aggregate: from now on an append raises Conflict. Its events stay and are read as before.

    `expected`: the version that it must be at, or ANY or EXISTS: whichever. Closing it again changes nothing.
    Raises NotFound when it has no event, VersionConflict when it is at another version, InvalidInput.
    """
    if expected in (ANY, EXISTS):
        version = None
    elif type(expected) is int and expected > 0:
        version = expected
    else:
        raise InvalidInput("expected", "must be a version from 1 on, or ANY, EXISTS", expected)
    key = {"aggregate_id": id_text(aggregate_id), "aggregate_type": aggregate_type}
    return db.flow(_close(key, version))


@repository
def reopen(db: Db, aggregate_type: str, aggregate_id: str | int) -> AggregateHead:
    """Takes `close` back; what is open stays so. Raises NotFound when the aggregate has no event."""
    key = {"aggregate_id": id_text(aggregate_id), "aggregate_type": aggregate_type}
    return db.flow(_reopen(key))


def _close(key: dict[str, str], version: int | None) -> Flow[AggregateHead]:
    closed = yield from maybe(_CLOSE, **key, expected=version)
    if closed is not None:
        return closed
    head = yield from maybe(_FIND_HEAD, **key)
    if head is None:
        raise NotFound("aggregate", dict(key), query=_CLOSE.file)
    raise VersionConflict(
        key["aggregate_type"], key["aggregate_id"], version, head.version, query=_CLOSE.file
    )


def _reopen(key: dict[str, str]) -> Flow[AggregateHead]:
    opened = yield from maybe(_REOPEN, **key)
    if opened is None:
        raise NotFound("aggregate", dict(key), query=_REOPEN.file)
    return opened
