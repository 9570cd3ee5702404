"""Appending: one statement moves the head row of the aggregate and inserts the events, or does neither."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from uuid import UUID

import msgspec
from uuid_utils.compat import uuid7

from rootstream_store.db import Db, repository
from rootstream_store.errors import Conflict, InvalidInput, VersionConflict
from rootstream_store.events._keys import id_text
from rootstream_store.events._payload import to_json
from rootstream_store.flow import Flow, maybe, rows
from rootstream_store.queries import Query, query
from rootstream_store.records import AggregateHead, Appended

__all__ = ["ANY", "EXISTS", "MAX_BATCH_EVENTS", "NO_STREAM", "Expected", "NewEvent", "append", "append_many"]


class Expected(enum.Enum):
    """What an append expects of its aggregate where it does not name a version."""

    ANY = "any version"
    """Whatever there is. Writers queue; none is refused."""
    NO_STREAM = "no event yet"
    EXISTS = "at least one event"

    def __str__(self) -> str:
        return self.value


ANY = Expected.ANY
NO_STREAM = Expected.NO_STREAM
EXISTS = Expected.EXISTS

MAX_BATCH_EVENTS = 10_000
"""Most events of one `append_many`."""
MAX_BATCH_BYTES = 64 * 1024 * 1024
"""Most bytes of JSON data of one `append_many`; jsonb itself ends at 256 MB."""


class NewEvent(msgspec.Struct, frozen=True):
    """An event to append."""

    event_type: str
    """1 to 255 characters."""
    data: object
    """A dict, list, dataclass or msgspec.Struct, or the bytes of a JSON object or array."""
    metadata: object = None
    """As `data`. None: none."""
    user_id: int | None = None
    """Who caused it. None: the system."""
    event_id: UUID | None = None
    """None: a new UUIDv7."""


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
_FIND_HEAD = query("events/find_head", AggregateHead)


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
) -> Appended:
    """Appends one event and tells where it went. Versions count from 1 without gaps.

    `data`, `metadata`: a dict, list, dataclass or msgspec.Struct, or the bytes of a JSON object or array, of
    at most 1 MiB and 100 levels; metadata None: none. `expected`: the version the aggregate must be at (0: no
    event yet), or ANY, NO_STREAM, EXISTS. `user_id`: who caused it; None: the system. `event_id`: None for a
    new UUIDv7.

    Raises VersionConflict when the aggregate is at another version, Conflict when it is closed, InvalidInput.
    The server meets no error in a conflict: a transaction that it happens in goes on.
    """
    params: dict[str, object] = {
        "aggregate_id": id_text(aggregate_id),
        "aggregate_type": aggregate_type,
        "event_type": event_type,
        "event_id": uuid7() if event_id is None else event_id,
        "event_data": to_json(data, "data"),
        "metadata": None if metadata is None else to_json(metadata, "metadata"),
        "user_id": user_id,
    }
    statement = _choose(expected, _APPEND, _APPEND_EXACT, params)
    return db.flow(_append(statement, expected, params))


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
    empty. Else as `append`; InvalidInput names the event by its index, from 0: "events[2].data".
    """
    if not isinstance(events, Sequence) or isinstance(events, str | bytes | bytearray | memoryview):
        raise InvalidInput("events", "must be a list of NewEvent", repr(type(events)))
    if len(events) > MAX_BATCH_EVENTS:
        raise InvalidInput("events", f"may be at most {MAX_BATCH_EVENTS} in one call", len(events))
    for index, event in enumerate(events):
        if not isinstance(event, NewEvent):
            raise InvalidInput(f"events[{index}]", f"must be a NewEvent, not a {type(event).__name__}")
    data = [to_json(event.data, f"events[{index}].data") for index, event in enumerate(events)]
    metadata = [
        "null" if event.metadata is None else to_json(event.metadata, f"events[{index}].metadata")
        for index, event in enumerate(events)
    ]
    for what, texts in (("data", data), ("metadata", metadata)):
        if sum(map(_size, texts)) > MAX_BATCH_BYTES:
            raise InvalidInput("events", f"may hold at most {MAX_BATCH_BYTES} bytes of {what} in one call")
    params: dict[str, object] = {
        "aggregate_id": id_text(aggregate_id),
        "aggregate_type": aggregate_type,
        "count": len(events),
        "event_types": [event.event_type for event in events],
        "event_ids": [uuid7() if event.event_id is None else event.event_id for event in events],
        "user_ids": [event.user_id for event in events],
        "event_data": f"[{','.join(data)}]",
        "metadata": f"[{','.join(metadata)}]" if any(text != "null" for text in metadata) else None,
    }
    statement = _choose(expected, _APPEND_MANY, _APPEND_MANY_EXACT, params)
    return db.flow(_append_many(statement, expected, params, events))


def _size(text: str) -> int:
    """In bytes of UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


def _append(
    statement: Query[Appended], expected: int | Expected, params: dict[str, object]
) -> Flow[Appended]:
    appended = yield from maybe(statement, **params)
    if appended is None:
        raise (yield from _refusal(statement, expected, params))
    return appended


def _append_many(
    statement: Query[Appended],
    expected: int | Expected,
    params: dict[str, object],
    events: Sequence[NewEvent],
) -> Flow[list[Appended]]:
    if not events:
        return []
    try:
        appended = yield from rows(statement, **params)
    except InvalidInput as error:
        raise _located(error, events) from error
    if not appended:
        raise (yield from _refusal(statement, expected, params))
    return appended


def _refusal(
    statement: Query[Appended], expected: int | Expected, params: dict[str, object]
) -> Flow[Conflict]:
    """Why no event was appended, by a second look at the head row."""
    aggregate_id, aggregate_type = str(params["aggregate_id"]), str(params["aggregate_type"])
    head = yield from maybe(_FIND_HEAD, aggregate_id=aggregate_id, aggregate_type=aggregate_type)
    if head is not None and head.is_closed:
        return Conflict(
            f"{aggregate_type} {aggregate_id!r} is closed: no further event is accepted", query=statement.file
        )
    actual = 0 if head is None else head.version
    return VersionConflict(aggregate_type, aggregate_id, expected, actual, query=statement.file)


def _choose(
    expected: int | Expected,
    modes: dict[Expected, Query[Appended]],
    exact: Query[Appended],
    params: dict[str, object],
) -> Query[Appended]:
    """The statement for `expected`; the version it needs is added to `params`."""
    if isinstance(expected, Expected):
        return modes[expected]
    if type(expected) is not int or expected < 0:
        raise InvalidInput("expected", "must be a version from 0 on, or ANY, NO_STREAM, EXISTS", expected)
    if expected == 0:
        return modes[NO_STREAM]
    params["expected"] = expected
    return exact


def _located(error: InvalidInput, events: Sequence[NewEvent]) -> InvalidInput:
    """The error with the index of the event at fault, which arrays and constraints do not tell."""
    for index, event in enumerate(events):
        found = error if error.field == "event_type" and _is_bad_length(event.event_type) else None
        try:
            _APPEND[ANY].check(
                {
                    "aggregate_id": "",
                    "aggregate_type": "",
                    "event_type": event.event_type,
                    "event_id": UUID(int=0) if event.event_id is None else event.event_id,
                    "event_data": "{}",
                    "metadata": None,
                    "user_id": event.user_id,
                }
            )
        except InvalidInput as own:
            found = own
        if found is not None:
            return InvalidInput(
                f"events[{index}].{found.field}",
                found.rule,
                getattr(event, found.field),
                sqlstate=error.sqlstate,
                constraint=error.constraint,
                query=error.query,
            )
    return error


def _is_bad_length(event_type: object) -> bool:
    return not isinstance(event_type, str) or not 1 <= len(event_type) <= 255
