"""Appending to several aggregates in one statement: all of it is done, or none."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec

from rootstream_store.db import Db, repository
from rootstream_store.errors import InvalidInput
from rootstream_store.events._keys import check_name, id_text
from rootstream_store.events._new_event import (
    ANY,
    EXISTS,
    MAX_BATCH_EVENTS,
    NO_STREAM,
    Expected,
    NewEvent,
    check_events,
    check_expected,
    columns_of,
)
from rootstream_store.events._refusal import attempt, explain, find_repeated, settled
from rootstream_store.events._wake import wake
from rootstream_store.flow import Flow
from rootstream_store.queries import query
from rootstream_store.records import Appended, AppendedTo

__all__ = ["APPEND", "AggregateEvents", "append_together", "in_order", "params_of"]

APPEND = query("events/append_together", AppendedTo)

# How the statement is told what is expected.
_CODES = {ANY: -1, EXISTS: -2, NO_STREAM: 0}

Key = tuple[str, str]
"""Aggregate type and aggregate id."""


class AggregateEvents(msgspec.Struct, frozen=True):
    """Events to append to one aggregate, in their order."""

    aggregate_type: str
    aggregate_id: str | int
    events: Sequence[NewEvent]
    """At least one."""
    expected: int | Expected = ANY
    """The version the aggregate must be at, or ANY, NO_STREAM, EXISTS."""


@repository
def append_together(db: Db, appends: Sequence[AggregateEvents]) -> list[list[Appended]]:
    """Appends to several aggregates at once, all or none, in one statement: for each of `appends` where its
    events went.

    Each aggregate may be named once. At most 10,000 events and 64 MiB in all. The head rows are locked in one
    order: such appends never wait for each other in a circle. An `event_id` for each aggregate, on one of its
    events at least, makes the call repeatable, as for `append`.

    Raises VersionConflict or Conflict for the first aggregate that is not as expected, InvalidInput that says
    where ("appends[1].events[2].data"), AlreadyExists for a known id with other content. In a transaction of
    the caller's, Conflict with `retryable` when somebody else makes the same new aggregate at this moment.
    """
    _check(appends)
    return db.flow(_append_together(appends))


def _check(appends: Sequence[AggregateEvents]) -> None:
    if not isinstance(appends, Sequence) or isinstance(appends, str | bytes | bytearray | memoryview):
        raise InvalidInput("appends", "must be a list of AggregateEvents", repr(type(appends)))
    seen: set[Key] = set()
    for index, one in enumerate(appends):
        if not isinstance(one, AggregateEvents):
            raise InvalidInput(f"appends[{index}]", f"must be AggregateEvents, not {type(one).__name__}")
        check_events(one.events, f"appends[{index}].events")
        if not one.events:
            raise InvalidInput(f"appends[{index}].events", "must hold at least one event")
        check_expected(one.expected)
        check_name(one.aggregate_type, f"appends[{index}].aggregate_type")
        check_name(one.aggregate_id, f"appends[{index}].aggregate_id")
        key = one.aggregate_type, id_text(one.aggregate_id)
        if key in seen:
            raise InvalidInput(f"appends[{index}]", "names an aggregate that another one names", key)
        seen.add(key)
    chosen = [any(event.event_id is not None for event in one.events) for one in appends]
    if any(chosen) and not all(chosen):
        place = f"appends[{chosen.index(False)}].events"
        raise InvalidInput(place, "must hold an event_id too, where those of another aggregate do")
    count = sum(len(one.events) for one in appends)
    if count > MAX_BATCH_EVENTS:
        raise InvalidInput("appends", f"may hold at most {MAX_BATCH_EVENTS} events in one call", count)


def params_of(appends: Sequence[AggregateEvents], *, is_atomic: bool) -> tuple[dict[str, Any], list[str]]:
    """The parameters of APPEND, and the texts of the events' ids. Raises InvalidInput."""
    events = [event for one in appends for event in one.events]
    places = [(number, index) for number, one in enumerate(appends) for index in range(len(one.events))]
    columns, ids = columns_of(
        events,
        lambda place: "appends[{}].events[{}].".format(*places[place]),
        (number + 1 for number, _ in places),
    )
    params = {
        **columns,
        "aggregate_ids": [id_text(one.aggregate_id) for one in appends],
        "aggregate_types": [one.aggregate_type for one in appends],
        "expected": [
            _CODES[one.expected] if isinstance(one.expected, Expected) else one.expected for one in appends
        ],
        "counts": [len(one.events) for one in appends],
        "is_atomic": is_atomic,
    }
    return params, ids


def _append_together(appends: Sequence[AggregateEvents]) -> Flow[list[list[Appended]]]:
    if not appends:
        return []
    params, ids = params_of(appends, is_atomic=True)
    chosen_ids: list[UUID] = params["chosen_ids"]
    appended, doubt = yield from attempt(APPEND, params, is_repeatable=bool(chosen_ids))
    made: Sequence[Appended] | None = in_order(appended)
    if not made and chosen_ids:
        owners = {name: params[name] for name in ("aggregate_ids", "aggregate_types")}
        found = yield from find_repeated(params, owners, None, chosen_ids, doubt)
        made = settled(found, ids, chosen_ids, APPEND.file)
    if not made:
        wanted = [(one.aggregate_type, id_text(one.aggregate_id), one.expected) for one in appends]
        raise (yield from explain(wanted, APPEND.file))
    yield from wake(made[-1].position)
    rest = iter(made)
    return [list(itertools.islice(rest, len(one.events))) for one in appends]


def in_order(appended: Sequence[AppendedTo]) -> list[Appended]:
    """Without the aggregates; the statement answers in the order in which the events were given."""
    return [
        Appended(version=one.version, position=one.position, event_id=one.event_id, timestamp=one.timestamp)
        for one in sorted(appended, key=lambda one: one.position)
    ]
