"""Reading events: of one aggregate, of one user, and the log as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime

from rootstream_store._limit import check_limit
from rootstream_store.db import Db, repository, stream_repository
from rootstream_store.errors import InvalidInput
from rootstream_store.events._horizon import find_horizon
from rootstream_store.events._keys import LAST, id_text
from rootstream_store.flow import Flow, rows
from rootstream_store.queries import query
from rootstream_store.records import AggregateHead, Event

__all__ = [
    "find_head",
    "find_position",
    "get",
    "get_version",
    "list_by_user",
    "read",
    "read_all",
    "stream",
    "stream_all",
]

_GET = query("events/get", Event)
_READ_FORWARD = query("events/read_forward", Event)
_READ_BACKWARD = query("events/read_backward", Event)
_READ_ALL = query("events/read_all", Event)
_READ_ALL_BACKWARD = query("events/read_all_backward", Event)
_LIST_BY_USER = query("events/list_by_user", Event)
_FIND_HEAD = query("events/find_head", AggregateHead)
_FIND_POSITION = query("events/find_position", int)
_GET_VERSION = query("events/get_version", int)


@repository
def get(db: Db, aggregate_type: str, aggregate_id: str | int, version: int) -> Event:
    """The event of this version. Raises NotFound."""
    return db.one(_GET, aggregate_id=id_text(aggregate_id), aggregate_type=aggregate_type, version=version)


@repository
def read(
    db: Db,
    aggregate_type: str,
    aggregate_id: str | int,
    *,
    after_version: int = 0,
    to_version: int | None = None,
    event_types: Sequence[str] | None = None,
    since: datetime | None = None,
    limit: int = 1000,
    backward: bool = False,
) -> list[Event]:
    """An aggregate's events in the order of their versions; an empty list when there are none.

    `after_version` itself is left out: to go on from a snapshot, or from the last event read, pass its
    version. `to_version` is included; None: up to the newest. `event_types`: only these; None: all. `since`:
    only those at or after this time; None: from the first. `backward`: the newest first. `limit`: 1 to 1000.
    """
    return db.all(
        _READ_BACKWARD if backward else _READ_FORWARD,
        **_range(aggregate_type, aggregate_id, after_version, to_version, event_types, since),
        limit=check_limit(limit),
    )


@stream_repository
def stream(
    db: Db,
    aggregate_type: str,
    aggregate_id: str | int,
    *,
    after_version: int = 0,
    to_version: int | None = None,
    event_types: Sequence[str] | None = None,
    since: datetime | None = None,
    backward: bool = False,
    size: int = 1000,
) -> AbstractContextManager[Iterator[Event]]:
    """As `read`, for any number of events: `with events.stream(db, …) as found:`.

    They arrive `size` at a time and need not fit in memory. Keeps one connection until the block ends.
    """
    return db.stream(
        _READ_BACKWARD if backward else _READ_FORWARD,
        size=size,
        **_range(aggregate_type, aggregate_id, after_version, to_version, event_types, since),
        limit=LAST,
    )


@repository
def read_all(
    db: Db,
    *,
    after_position: int = 0,
    to_position: int | None = None,
    aggregate_type: str | None = None,
    event_types: Sequence[str] | None = None,
    since: datetime | None = None,
    limit: int = 1000,
    backward: bool = False,
) -> list[Event]:
    """Events of the whole log in the order of their positions, up to the horizon: none is ever missed, and
    those of one aggregate come in the order of their versions.

    Go on with `after_position` of the last event read. `to_position` is included; None: up to the horizon,
    which is never passed. `aggregate_type`, `event_types`: only these; None: all. `since`: only those at or
    after this time; a long log is read faster from `find_position(db, since)` on. `limit`: 1 to 1000.
    `backward`: the newest first; go on with `to_position` one below that of the last event read.

    Raises Unavailable on a standby, Conflict in a transaction that is repeatable read or serializable.
    """
    check_limit(limit)
    filters = _filters(aggregate_type, event_types, since)
    return db.flow(_read_all(after_position, to_position, filters, limit, backward=backward))


@stream_repository
def stream_all(
    db: Db,
    *,
    after_position: int = 0,
    to_position: int | None = None,
    aggregate_type: str | None = None,
    event_types: Sequence[str] | None = None,
    since: datetime | None = None,
    size: int = 1000,
) -> AbstractContextManager[Iterator[Event]]:
    """As `read_all`, for any number of events, up to what is the horizon now: `with events.stream_all(db) as
    found:`. They arrive `size` at a time. Keeps one connection until the block ends."""
    filters = _filters(aggregate_type, event_types, since)
    return db.stream_from(_stream_all(after_position, to_position, filters, size), size=size)


@repository
def find_position(db: Db, at: datetime) -> int:
    """The position of the last event before a point in time, 0 when there is none: `read_all` after it begins
    with the first event at that time. Found by halving, as events are appended when they happen: where a
    clock was set back, or events of the past were imported, it is one of the places that fit."""
    return db.one(_FIND_POSITION, at=at)


@repository
def find_head(db: Db, aggregate_type: str, aggregate_id: str | int) -> AggregateHead | None:
    """Where an aggregate's events end; None when it has none."""
    return db.maybe(_FIND_HEAD, aggregate_id=id_text(aggregate_id), aggregate_type=aggregate_type)


@repository
def get_version(db: Db, aggregate_type: str, aggregate_id: str | int) -> int:
    """The version of an aggregate's last event, 0 when it has none."""
    return db.one(_GET_VERSION, aggregate_id=id_text(aggregate_id), aggregate_type=aggregate_type)


@repository
def list_by_user(
    db: Db, user_id: int, *, before_position: int | None = None, limit: int = 100
) -> list[Event]:
    """The audit trail of a user: the events that the user caused, newest first.

    It is kept after the user is deleted. `before_position`: the position of the last event of the page
    before; None: from the newest. `limit`: 1 to 1000.
    """
    return db.all(
        _LIST_BY_USER,
        user_id=user_id,
        before_position=LAST if before_position is None else before_position,
        limit=check_limit(limit),
    )


def _range(
    aggregate_type: str,
    aggregate_id: str | int,
    after_version: int,
    to_version: int | None,
    event_types: Sequence[str] | None,
    since: datetime | None,
) -> dict[str, object]:
    return {
        "aggregate_id": id_text(aggregate_id),
        "after_version": after_version,
        "to_version": LAST if to_version is None else to_version,
        **_filters(aggregate_type, event_types, since),
    }


def _filters(
    aggregate_type: str | None, event_types: Sequence[str] | None, since: datetime | None
) -> dict[str, object]:
    if isinstance(event_types, str):  # a sequence, too
        raise InvalidInput("event_types", "must be a list of event types", event_types)
    return {
        "aggregate_type": aggregate_type,
        "event_types": None if event_types is None else list(event_types),
        "since": since,
    }


def _bounds(after_position: int, to_position: int | None) -> Flow[dict[str, object] | None]:
    """Where a reader of the whole log begins and ends; None when there is nothing in between."""
    horizon = yield from find_horizon()
    last = horizon.position if to_position is None else to_position
    if type(last) is int:  # else the query says what is wrong with it
        last = min(last, horizon.position)
        if type(after_position) is int and after_position >= last >= 0:
            return None
    return {"after_position": after_position, "to_position": last}


def _read_all(
    after_position: int, to_position: int | None, filters: dict[str, object], limit: int, *, backward: bool
) -> Flow[list[Event]]:
    bounds = yield from _bounds(after_position, to_position)
    if bounds is None:
        return []
    statement = _READ_ALL_BACKWARD if backward else _READ_ALL
    return (yield from rows(statement, **bounds, **filters, limit=limit))


def _stream_all(
    after_position: int, to_position: int | None, filters: dict[str, object], size: int
) -> Flow[AbstractContextManager[Iterator[Event]]]:
    bounds = yield from _bounds(after_position, to_position)
    if bounds is None:
        bounds = {"after_position": 0, "to_position": 0}
    opened: AbstractContextManager[Iterator[Event]] = yield lambda db: db.stream(
        _READ_ALL, size=size, **bounds, **filters, limit=LAST
    )
    return opened
