"""Reading events: of one aggregate, and of one user."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager

from rootstream_store._limit import check_limit
from rootstream_store.db import Db, repository
from rootstream_store.events._keys import LAST, id_text
from rootstream_store.queries import query
from rootstream_store.records import AggregateHead, Event

__all__ = ["find_head", "get", "get_version", "list_by_user", "read", "stream"]

_GET = query("events/get", Event)
_READ_FORWARD = query("events/read_forward", Event)
_READ_BACKWARD = query("events/read_backward", Event)
_LIST_BY_USER = query("events/list_by_user", Event)
_FIND_HEAD = query("events/find_head", AggregateHead)
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
    limit: int = 1000,
    backward: bool = False,
) -> list[Event]:
    """An aggregate's events in the order of their versions; an empty list when there are none.

    `after_version` itself is left out: to go on from a snapshot, or from the last event read, pass its
    version. `to_version` is included; None: up to the newest. `backward`: the newest first. `limit`: 1 to
    1000.
    """
    return db.all(
        _READ_BACKWARD if backward else _READ_FORWARD,
        aggregate_id=id_text(aggregate_id),
        aggregate_type=aggregate_type,
        after_version=after_version,
        to_version=LAST if to_version is None else to_version,
        limit=check_limit(limit),
    )


@repository
def stream(
    db: Db,
    aggregate_type: str,
    aggregate_id: str | int,
    *,
    after_version: int = 0,
    to_version: int | None = None,
    size: int = 1000,
) -> AbstractContextManager[Iterator[Event]]:
    """As `read`, for any number of events: `with events.stream(db, …) as found:`.

    They arrive `size` at a time and need not fit in memory. Keeps one connection until the block ends.
    """
    return db.stream(
        _READ_FORWARD,
        size=size,
        aggregate_id=id_text(aggregate_id),
        aggregate_type=aggregate_type,
        after_version=after_version,
        to_version=LAST if to_version is None else to_version,
        limit=LAST,
    )


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
