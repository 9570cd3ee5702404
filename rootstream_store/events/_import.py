"""Bulk import: events of any number of aggregates by COPY, all or none, as from another event store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from uuid_utils.compat import uuid7

from rootstream_store._sql_types import rule_of
from rootstream_store.db import Db, repository
from rootstream_store.errors import Conflict, InvalidInput
from rootstream_store.events._append_together import AggregateEvents
from rootstream_store.events._keys import check_name, id_text
from rootstream_store.events._new_event import ANY, NewEvent, check_events, check_head, check_value, with_ids
from rootstream_store.events._payload import to_json
from rootstream_store.events._wake import wake
from rootstream_store.flow import Flow, rows
from rootstream_store.queries import query
from rootstream_store.records import MovedHead

__all__ = ["PastEvent", "import_events"]

_MOVE_HEADS = query("events/move_heads", MovedHead)
_COPY = query("events/copy_events")

# jsonb goes over the wire as a version and the text.
_TYPES = ("text", "text", "bigint", "text", "uuid", "boolean", "bytea", "bytea", "bigint", "timestamptz")
_JSONB_VERSION = b"\x01"
_TIME = rule_of("timestamptz")

Key = tuple[str, str]


class PastEvent(NewEvent, frozen=True):
    """An event to import with the time at which it happened."""

    timestamp: datetime | None = None
    """Timezone-aware, not before that of the event before it. None: now."""


@repository
def import_events(db: Db, aggregates: Sequence[AggregateEvents]) -> int:
    """Appends the events of many aggregates in bulk, in one transaction: how many there were.

    Each aggregate may be named once; `expected` must be ANY. Without the limit of `append_many` to 10,000
    events, and several times as fast: meant for loading a log from elsewhere. An event whose `event_id` its
    aggregate has cannot be imported again: AlreadyExists. After an import with times of the past
    `find_position` finds one of the places that fit.

    Raises InvalidInput that says where ("aggregates[1].events[2].data"), Conflict when an aggregate is
    closed, and Conflict with `retryable` after a deadlock with an append to the same aggregates.
    """
    of: dict[Key, tuple[int, Sequence[NewEvent]]] = {}
    for index, one in enumerate(aggregates):
        where = f"aggregates[{index}]"
        if not isinstance(one, AggregateEvents):
            raise InvalidInput(where, f"must be AggregateEvents, not {type(one).__name__}")
        check_name(one.aggregate_type, f"{where}.aggregate_type")
        check_name(one.aggregate_id, f"{where}.aggregate_id")
        if one.expected is not ANY:
            raise InvalidInput(f"{where}.expected", "must be ANY", one.expected)
        key = one.aggregate_type, id_text(one.aggregate_id)
        if key in of:
            raise InvalidInput(where, "names an aggregate that another one names", key)
        check_events(one.events, f"{where}.events", most=None)
        if one.events:
            of[key] = index, one.events
    return db.flow(_import(of), atomic=True)


def _import(of: dict[Key, tuple[int, Sequence[NewEvent]]]) -> Flow[int]:
    if not of:
        return 0
    moved = yield from rows(
        _MOVE_HEADS,
        aggregate_ids=[aggregate_id for _, aggregate_id in of],
        aggregate_types=[aggregate_type for aggregate_type, _ in of],
        counts=[len(events) for _, events in of.values()],
    )
    heads = {(head.aggregate_type, head.aggregate_id): head for head in moved}
    for aggregate_type, aggregate_id in of.keys() - heads.keys():
        raise Conflict(
            f"{aggregate_type} {aggregate_id!r} is closed: no further event is accepted",
            query=_MOVE_HEADS.file,
        )
    written: int = yield lambda db: db.copy(_COPY, _rows(of, heads), _TYPES)
    yield from wake(0)  # somewhere
    return written


def _rows(
    of: dict[Key, tuple[int, Sequence[NewEvent]]], heads: dict[Key, MovedHead]
) -> Iterator[Sequence[object]]:
    for key, (number, events) in of.items():
        head = heads[key]
        version = head.version - len(events)
        for index, event in enumerate(events):
            version += 1
            try:
                check_head(event)
                timestamp = getattr(event, "timestamp", None)
                if timestamp is None:
                    timestamp = head.moved_at
                else:
                    check_value(timestamp, "timestamp", _TIME)
                data = to_json(event.data, "data").encode()
                metadata = with_ids(event.metadata, event.correlation_id, event.causation_id)
            except InvalidInput as error:
                place = f"aggregates[{number}].events[{index}].{error.field}"
                raise InvalidInput(place, error.rule, error.value) from error
            yield (
                key[1],
                key[0],
                version,
                event.event_type,
                uuid7() if event.event_id is None else event.event_id,
                event.event_id is not None,
                _JSONB_VERSION + data,
                None if metadata is None else _JSONB_VERSION + metadata.encode(),
                event.user_id,
                timestamp,
            )
