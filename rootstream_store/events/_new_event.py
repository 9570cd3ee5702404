"""Events that are still to be appended: checked, and put into the form that the statements take."""

from __future__ import annotations

import enum
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from uuid import UUID

import msgspec
from uuid_utils import uuid7

from rootstream_store._sql_types import rule_of
from rootstream_store.errors import InvalidInput
from rootstream_store.events._keys import MAX_NAME_LENGTH, check_name
from rootstream_store.events._payload import to_json, to_json_at_once
from rootstream_store.records import Event

__all__ = [
    "ANY",
    "EXISTS",
    "MAX_BATCH_BYTES",
    "MAX_BATCH_EVENTS",
    "NO_STREAM",
    "Expected",
    "NewEvent",
    "Where",
    "alone",
    "check_events",
    "check_expected",
    "check_head",
    "check_value",
    "columns_of",
    "follows",
    "in_list",
    "with_ids",
]


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
"""Most events of one call."""
MAX_BATCH_BYTES = 64 * 1024 * 1024
"""Most bytes of JSON data of one call; jsonb itself ends at 256 MB."""


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
    """Makes the append repeatable: see `append`. None: a new UUIDv7."""
    correlation_id: UUID | str | None = None
    """Of the whole business transaction; kept in the metadata. None: none."""
    causation_id: UUID | str | None = None
    """The id of the event or command that this one follows from; kept in the metadata. None: none."""


def follows(event: Event) -> dict[str, UUID | str]:
    """The ids for an event that `event` is the cause of: `append(…, **follows(event))`.

    The correlation id is that of `event`, or its own id where it has none."""
    metadata = event.metadata if isinstance(event.metadata, dict) else {}
    return {"causation_id": event.event_id, "correlation_id": metadata.get("correlation_id", event.event_id)}


Where = Callable[[int], str]
"""How errors call an event by its index: what stands before the name of the field."""


def in_list(index: int) -> str:
    """ "events[2]." for the third."""
    return f"events[{index}]."


def alone(_: int) -> str:
    """Nothing, where there is only one event."""
    return ""


def with_ids(
    metadata: object, correlation_id: UUID | str | None, causation_id: UUID | str | None
) -> str | None:
    """The JSON of the metadata with these ids in it. Raises InvalidInput."""
    if correlation_id is None and causation_id is None:
        return None if metadata is None else to_json(metadata, "metadata")
    ids = {
        name: _id_text(value, name)
        for name, value in (("correlation_id", correlation_id), ("causation_id", causation_id))
        if value is not None
    }
    given: Any = {} if metadata is None else msgspec.json.decode(to_json(metadata, "metadata"))
    if not isinstance(given, dict):
        raise InvalidInput("metadata", "must be a JSON object where there is a correlation or causation id")
    return to_json({**given, **ids}, "metadata")


def _id_text(value: object, field: str) -> str:
    if not isinstance(value, UUID | str):
        raise InvalidInput(field, "must be a UUID or text", value)
    return str(value)


def check_expected(expected: int | Expected) -> None:
    """Raises InvalidInput for what no aggregate can be at."""
    if not isinstance(expected, Expected) and (type(expected) is not int or expected < 0):
        raise InvalidInput("expected", "must be a version from 0 on, or ANY, NO_STREAM, EXISTS", expected)


def check_events(
    events: Sequence[NewEvent], field: str = "events", most: int | None = MAX_BATCH_EVENTS
) -> None:
    """Raises InvalidInput for what is no list of events, or holds more than `most` (None: no limit)."""
    if not isinstance(events, Sequence) or isinstance(events, str | bytes | bytearray | memoryview):
        raise InvalidInput(field, "must be a list of NewEvent", repr(type(events)))
    if most is not None and len(events) > most:
        raise InvalidInput(field, f"may be at most {most} in one call", len(events))
    for index, event in enumerate(events):
        if not isinstance(event, NewEvent):
            raise InvalidInput(f"{field}[{index}]", f"must be a NewEvent, not a {type(event).__name__}")


def columns_of(
    events: Sequence[NewEvent], where: Where = in_list, owners: Iterable[int] | None = None
) -> tuple[dict[str, Any], list[str]]:
    """The events as the parameters of a statement, and the texts of their ids. JSON documents, which both
    sides handle faster than arrays of texts. `owners`: of each event the number of its aggregate, from 1;
    None: all 1. Raises InvalidInput that says by `where` which event is at fault."""
    heads: list[tuple[str, str, int | None, int]] = []
    metadata: list[str] = []
    chosen: dict[UUID, None] = {}  # a set that keeps the order
    try:
        for event, owner in zip(events, itertools.repeat(1) if owners is None else owners, strict=False):
            event_id = event.event_id
            heads.append((event.event_type, str(event_id or uuid7()), event.user_id, owner))
            check_head(event)
            if event_id is not None:
                if event_id in chosen:
                    raise InvalidInput("event_id", "must not be that of another event", event_id)
                chosen[event_id] = None
            metadata.append(with_ids(event.metadata, event.correlation_id, event.causation_id) or "null")
    except InvalidInput as error:
        # The last one that was begun.
        raise InvalidInput(f"{where(len(heads) - 1)}{error.field}", error.rule, error.value) from error
    columns = {
        "heads": _encode(heads).decode(),
        "event_data": _data_of(events, where),
        "metadata": _document(metadata, "metadata") if any(text != "null" for text in metadata) else None,
        "is_repeatable": bool(chosen),
        "chosen_ids": list(chosen),
    }
    return columns, [event_id for _, event_id, _, _ in heads]


Rule = tuple[type | None, Callable[[object], bool] | None, str]
"""Of a PostgreSQL type; see `rule_of`."""


def check_value(value: object, field: str, rule: Rule) -> None:
    """Raises InvalidInput for a value that does not fit its type."""
    exact, fits, words = rule
    if not (type(value) is exact if fits is None else fits(value)):
        raise InvalidInput(field, words, value)


def check_head(event: NewEvent) -> None:
    """Raises InvalidInput for a type, user or id that cannot be stored."""
    name, user_id = event.event_type, event.user_id
    if (
        event.event_id is None
        and type(name) is str
        and 1 <= len(name) <= MAX_NAME_LENGTH
        and name.isprintable()
        and (user_id is None or (type(user_id) is int and 0 <= user_id < 2**63))
    ):
        return  # what most are; others are looked at closely
    check_name(event.event_type, "event_type")
    for field, value, rule, is_needed in (
        ("event_type", event.event_type, _TEXT, True),
        ("user_id", event.user_id, _INTEGER, False),
        ("event_id", event.event_id, _UUID, False),
    ):
        if value is None:
            if is_needed:
                raise InvalidInput(field, "must not be null")
        else:
            check_value(value, field, rule)


def _data_of(events: Sequence[NewEvent], where: Where) -> str:
    document = to_json_at_once([event.data for event in events])
    if document is not None:
        return document
    texts = []
    for index, event in enumerate(events):
        try:
            texts.append(to_json(event.data, "data"))
        except InvalidInput as error:
            raise InvalidInput(f"{where(index)}{error.field}", error.rule, error.value) from error
    return _document(texts, "data")


def _document(texts: Sequence[str], what: str) -> str:
    if sum(map(_size, texts)) > MAX_BATCH_BYTES:
        raise InvalidInput("events", f"may hold at most {MAX_BATCH_BYTES} bytes of {what} in one call")
    return f"[{','.join(texts)}]"


def _size(text: str) -> int:
    """In bytes of UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


_encode = msgspec.json.Encoder().encode
_TEXT, _INTEGER, _UUID = rule_of("text"), rule_of("bigint"), rule_of("uuid")
