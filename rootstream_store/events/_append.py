"""Appending to one aggregate: one statement moves its head row and inserts the events, or does neither."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any
from uuid import UUID

import msgspec
from uuid_utils.compat import uuid7

from rootstream_store.db import Db, repository
from rootstream_store.errors import AlreadyExists, RootStreamError, Unavailable
from rootstream_store.events._keys import MAX_NAME_LENGTH, check_name, id_text
from rootstream_store.events._new_event import (
    ANY,
    EXISTS,
    NO_STREAM,
    Expected,
    NewEvent,
    Where,
    alone,
    check_events,
    check_expected,
    columns_of,
    in_list,
    with_ids,
)
from rootstream_store.events._payload import to_json
from rootstream_store.events._refusal import attempt, explain, find_repeated, settled
from rootstream_store.events._wake import wake, wake_after
from rootstream_store.flow import Flow
from rootstream_store.queries import Query, query
from rootstream_store.records import Appended

__all__ = ["append", "append_many"]

_APPEND = {
    ANY: query("events/append_any", Appended),
    NO_STREAM: query("events/append_new", Appended),
    EXISTS: query("events/append_existing", Appended),
}
_APPEND_EXACT = query("events/append_exact", Appended)
_APPEND_MANY = {
    ANY: query("events/append_many_any", Appended),
    NO_STREAM: query("events/append_many_new", Appended),
    EXISTS: query("events/append_many_existing", Appended),
}
_APPEND_MANY_EXACT = query("events/append_many_exact", Appended)


@repository
def append(
    db: Db,
    aggregate_type: str,
    aggregate_id: str | int,
    event_type: str,
    data: object,
    *,
    expected: int | Expected = ANY,
    metadata: object = None,
    user_id: int | None = None,
    event_id: UUID | None = None,
    correlation_id: UUID | str | None = None,
    causation_id: UUID | str | None = None,
) -> Appended:
    """Appends one event and tells where it went. Versions count from 1 without gaps.

    `data`, `metadata`: a dict, list, dataclass or msgspec.Struct, or the bytes of a JSON object or array, of
    at most 1 MiB and 100 levels; metadata None: none. `expected`: the version the aggregate must be at (0: no
    event yet), or ANY, NO_STREAM, EXISTS. `user_id`: who caused it; None: the system. `correlation_id`,
    `causation_id`: kept in the metadata, which must then be an object; see `follows`.

    `event_id` makes the append repeatable: made again with the same content it returns the first result, so
    it can be tried until an answer comes; with other content it raises AlreadyExists. The store itself tries
    such an append again after a lost connection. The same is true without an id where `expected` is a version
    or NO_STREAM, but for the caller's own repeats, which conflict. None: a new UUIDv7.

    Raises VersionConflict when the aggregate is at another version, Conflict when it is closed, InvalidInput,
    AlreadyExists. The server meets no error in a conflict: a transaction that it happens in goes on.
    """
    for name, field in (
        (aggregate_type, "aggregate_type"),
        (aggregate_id, "aggregate_id"),
        (event_type, "event_type"),
    ):
        if type(name) is str and not 1 <= len(name) <= MAX_NAME_LENGTH:
            check_name(name, field)
    if event_id is not None:
        event = NewEvent(event_type, data, metadata, user_id, event_id, correlation_id, causation_id)
        return db.flow(_append_chosen(aggregate_type, id_text(aggregate_id), expected, event))
    params: dict[str, object] = {
        "aggregate_id": aggregate_id if type(aggregate_id) is str else id_text(aggregate_id),
        "aggregate_type": aggregate_type,
        "event_type": event_type,
        "event_id": uuid7(),
        "event_data": to_json(data, "data"),
        "metadata": None,
        "user_id": user_id,
    }
    if metadata is not None or correlation_id is not None or causation_id is not None:
        params["metadata"] = with_ids(metadata, correlation_id, causation_id)
    statement = _choose(expected, _APPEND, _APPEND_EXACT, params)
    return db.one_or(statement, partial(_second_look, statement, expected, params), wake_after, **params)


@repository
def append_many(
    db: Db,
    aggregate_type: str,
    aggregate_id: str | int,
    events: Sequence[NewEvent],
    *,
    expected: int | Expected = ANY,
) -> list[Appended]:
    """Appends events to one aggregate, in their order, all or none, in one statement.

    At most 10,000 events and 64 MiB. No event: nothing is sent, `expected` is not looked at, and the list is
    empty. One event with an `event_id` makes the whole call repeatable, as for `append`. InvalidInput names
    the event by its index, from 0: "events[2].data". Else as `append`.
    """
    check_name(aggregate_type, "aggregate_type")
    check_name(aggregate_id, "aggregate_id")
    check_events(events)
    return db.flow(_append_many(aggregate_type, id_text(aggregate_id), expected, events))


def _second_look(
    statement: Query[Appended],
    expected: int | Expected,
    params: dict[str, object],
    lost: Unavailable | None,
) -> Flow[Appended]:
    """Of an append of one event that was refused, or whose answer was lost."""
    wanted = str(params["aggregate_type"]), str(params["aggregate_id"])
    if lost is None:
        raise (yield from explain([(*wanted, expected)], statement.file))
    if expected in (ANY, EXISTS):
        raise lost
    # It cannot be applied twice: the version tells whether it was, and the id whether it was this one.
    data, metadata = params["event_data"], params["metadata"]
    event_id: Any = params["event_id"]
    columns: dict[str, Any] = {
        "heads": msgspec.json.encode([(params["event_type"], event_id, params["user_id"], 1)]).decode(),
        "event_data": f"[{data}]",
        "metadata": None if metadata is None else f"[{metadata}]",
        "is_repeatable": False,
        "chosen_ids": [],
    }
    appended = yield from _run(*wanted, expected, columns, [str(event_id)], doubt=lost)
    return appended[0]


def _append_chosen(
    aggregate_type: str, aggregate_id: str, expected: int | Expected, event: NewEvent
) -> Flow[Appended]:
    appended = yield from _append_many(aggregate_type, aggregate_id, expected, [event], alone)
    return appended[0]


def _append_many(
    aggregate_type: str,
    aggregate_id: str,
    expected: int | Expected,
    events: Sequence[NewEvent],
    where: Where = in_list,
) -> Flow[list[Appended]]:
    check_expected(expected)
    columns, ids = columns_of(events, where)
    if not events:
        return []
    return (yield from _run(aggregate_type, aggregate_id, expected, columns, ids))


def _run(
    aggregate_type: str,
    aggregate_id: str,
    expected: int | Expected,
    columns: Mapping[str, Any],
    ids: Sequence[str],
    doubt: RootStreamError | None = None,
) -> Flow[list[Appended]]:
    params: dict[str, object] = {
        "aggregate_id": aggregate_id,
        "aggregate_type": aggregate_type,
        "count": len(ids),
        **columns,
    }
    statement = _choose(expected, _APPEND_MANY, _APPEND_MANY_EXACT, params)
    chosen_ids: list[UUID] = columns["chosen_ids"]
    is_repeatable = bool(chosen_ids) or expected not in (ANY, EXISTS)
    appended, later = yield from attempt(statement, params, is_repeatable=is_repeatable, doubt=doubt)
    if appended:
        yield from wake(appended[-1].position)
        return appended
    doubt = later or doubt
    if chosen_ids or doubt:
        # Without an id of the caller's only our own attempt counts: at this version, with our ids.
        version: Any = None if chosen_ids else params.get("expected", 0)
        owners = {"aggregate_ids": [aggregate_id], "aggregate_types": [aggregate_type]}
        found = yield from find_repeated(columns, owners, version, chosen_ids or [*map(UUID, ids)], doubt)
        first = settled(found, ids, chosen_ids, statement.file)
        if first is not None:
            yield from wake(first[-1].position)  # the first attempt may have had no time for it
            return first
        if isinstance(later, AlreadyExists):
            raise later
    raise (yield from explain([(aggregate_type, aggregate_id, expected)], statement.file))


def _choose(
    expected: int | Expected,
    modes: dict[Expected, Query[Appended]],
    exact: Query[Appended],
    params: dict[str, object],
) -> Query[Appended]:
    """The statement for `expected`; the version it needs is added to `params`."""
    if isinstance(expected, Expected):
        return modes[expected]
    check_expected(expected)
    if expected == 0:
        return modes[NO_STREAM]
    params["expected"] = expected
    return exact
