"""Typed events: a class for each type of event, and what makes today's events of yesterday's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any, Generic, Literal, TypeVar
from uuid import UUID

import msgspec

from rootstream_store.errors import InvalidInput
from rootstream_store.events._new_event import NewEvent
from rootstream_store.records import Event

__all__ = ["EventTypes", "RawEvent", "TypedEvent", "Upcaster"]

E = TypeVar("E")

_LONGEST_REASON = 200


class TypedEvent(msgspec.Struct, Generic[E], frozen=True):
    """An event of the log whose data is an object of the class for its type. The rest is as in Event."""

    data: E
    event_type: str
    """After upcasting: the name of the class of `data`."""
    version: int
    position: int
    aggregate_type: str
    aggregate_id: str
    event_id: UUID
    metadata: Any
    user_id: int | None
    timestamp: datetime


class Upcaster(msgspec.Struct, frozen=True):
    """How the data of an old event become those of a newer one. The log itself is not changed."""

    old: str
    """The event type as it was written."""
    new: str
    """The event type that it becomes; the same as `old` where only the data changed, and then with `when`."""
    convert: Callable[[Any], Any]
    """From the old data, decoded JSON, to the new; may change what it is given."""
    when: Callable[[Any], bool] | None = None
    """Whether data need it: `lambda data: "quality" not in data`. None: always."""


class EventTypes(Generic[E]):
    """The classes that the data of events become, each for the event type of its name, or of its msgspec tag.

    So that type checkers know the union: `EventTypes[Started | Joined](Started, Joined)`; `match event.data:`
    then works and is checked for completeness.

    `upcasters` apply one after another until none does; each at most once to an event. `unknown`: "error" to
    raise InvalidInput for an event of another type, "skip" to leave it out of folds and of `decode_all`.

    Raises InvalidInput for a class that is no msgspec.Struct, a name that is there twice, and upcasters that
    go in a circle, lead to no class, or would turn away what has a class.
    """

    def __init__(
        self,
        *classes: type[E],
        upcasters: Iterable[Upcaster] = (),
        unknown: Literal["error", "skip"] = "error",
    ) -> None:
        if unknown not in ("error", "skip"):
            raise InvalidInput("unknown", 'must be "error" or "skip"', unknown)
        self._unknown = unknown
        self._classes: dict[str, type[E]] = {}
        for cls in classes:
            if not (isinstance(cls, type) and issubclass(cls, msgspec.Struct)):
                raise InvalidInput("classes", "must each be a msgspec.Struct", cls)
            if self._classes.setdefault(name := _name_of(cls), cls) is not cls:
                raise InvalidInput("classes", "must have names of their own", name)
        self._upcasters: dict[str, list[Upcaster]] = {}
        for upcaster in upcasters:
            self._upcasters.setdefault(upcaster.old, []).append(upcaster)
        _check_upcasters(self._upcasters, self._classes)
        self._decoders: dict[str, Callable[[msgspec.Raw], E]] = {}
        for name, cls in self._classes.items():
            try:
                decoder = msgspec.json.Decoder(cls)
            except TypeError as error:
                raise InvalidInput("classes", f"{name} is none that msgspec can decode: {error}") from error
            if name not in self._upcasters:
                self._decoders[name] = decoder.decode

    def __repr__(self) -> str:
        return f"EventTypes({', '.join(self._classes)})"

    def new(
        self, data: E, *, metadata: object = None, user_id: int | None = None, event_id: UUID | None = None
    ) -> NewEvent:
        """The event to append that says `data`: an object of one of the classes. The rest is as in NewEvent.

        Raises InvalidInput for an object of another class.
        """
        name = _name_of(type(data))
        if self._classes.get(name) is not type(data):
            raise InvalidInput("data", f"must be one of {', '.join(self._classes)}", type(data).__name__)
        return NewEvent(name, data, metadata=metadata, user_id=user_id, event_id=event_id)

    def decode(self, event: Event) -> TypedEvent[E]:
        """The event with typed data, upcast where it is old. Raises InvalidInput for an event of no known
        type, whatever `unknown` says, and for data that do not fit the class."""
        key = (event.aggregate_type, event.aggregate_id)
        found = self._read(event.event_type, event.event_data, event, key)
        if found is None:
            raise self._stranger(event, key)
        return _typed(found, event, key)

    def decode_all(self, events: Iterable[Event]) -> Iterator[TypedEvent[E]]:
        """Each event as `decode` gives it; without those that were erased and no longer fit their class, and
        without those of no known type where `unknown` is "skip"."""
        for event in events:
            key = (event.aggregate_type, event.aggregate_id)
            try:
                found = self._read(event.event_type, event.event_data, event, key)
            except Exception:
                if _is_erased(event):
                    continue
                raise
            if found is not None:
                yield _typed(found, event, key)
            elif self._unknown == "error":
                raise self._stranger(event, key)

    def decode_raw(self, event: RawEvent, key: tuple[str, str]) -> TypedEvent[E] | None:
        """As `decode_all`, of one event of the aggregate `key`; None: it is left out. For the library."""
        try:
            return self._decode_raw(event, key)
        except Exception:
            # Nothing is left of it, and those after it must be read all the same.
            if _is_erased(event):
                return None
            raise

    def _decode_raw(self, event: RawEvent, key: tuple[str, str]) -> TypedEvent[E] | None:
        decode = self._decoders.get(event.event_type)
        if decode is not None:
            try:
                return _typed((event.event_type, decode(event.event_data)), event, key)
            except msgspec.MsgspecError as error:
                raise _unfit(event.event_type, event, key, error) from None
        if event.event_type in self._upcasters:
            found = self._read(event.event_type, msgspec.json.decode(event.event_data), event, key)
            if found is not None:
                return _typed(found, event, key)
        if self._unknown == "error":
            raise self._stranger(event, key)
        return None

    def _read(self, name: str, data: Any, event: _Stored, key: tuple[str, str]) -> tuple[str, E] | None:
        """The type and the data as they are today; None when there is no class for it."""
        if name in self._upcasters:
            name, data = self._upcast(name, data, event, key)
        cls = self._classes.get(name)
        if cls is None:
            return None
        try:
            return name, msgspec.convert(data, cls, str_keys=True)
        except msgspec.MsgspecError as error:
            raise _unfit(name, event, key, error) from None

    def _upcast(self, name: str, data: Any, event: _Stored, key: tuple[str, str]) -> tuple[str, Any]:
        used: set[int] = set()
        try:
            while (upcaster := self._next(name, data)) is not None:
                if id(upcaster) in used:
                    raise InvalidInput("upcasters", f"{name}: `when` still holds for what `convert` made")
                used.add(id(upcaster))
                name, data = upcaster.new, upcaster.convert(data)
        except Exception as error:
            error.add_note(f"upcasting {_place(event, key)}")
            raise
        return name, data

    def _next(self, name: str, data: Any) -> Upcaster | None:
        for upcaster in self._upcasters.get(name, ()):
            if upcaster.when is None or upcaster.when(data):
                return upcaster
        return None

    def _stranger(self, event: _Stored, key: tuple[str, str]) -> InvalidInput:
        rule = f"must be one of {', '.join(self._classes)} in {_place(event, key)}"
        return InvalidInput("event_type", rule, event.event_type)


class RawEvent(msgspec.Struct, array_like=True, frozen=True):
    """An event as sql/events/load.sql has it in its JSON, with data that are not decoded yet."""

    position: int
    version: int
    event_type: str
    event_id: UUID
    event_data: msgspec.Raw
    metadata: Any
    user_id: int | None
    timestamp: datetime


_Stored = Event | RawEvent


def _typed(found: tuple[str, E], event: _Stored, key: tuple[str, str]) -> TypedEvent[E]:
    name, data = found
    return TypedEvent(
        data,
        name,
        event.version,
        event.position,
        *key,
        event.event_id,
        event.metadata,
        event.user_id,
        event.timestamp,
    )


def _name_of(cls: type[Any]) -> str:
    config: msgspec.structs.StructConfig | None = getattr(cls, "__struct_config__", None)
    return config.tag if config is not None and isinstance(config.tag, str) else cls.__name__


def _is_erased(event: _Stored) -> bool:
    return isinstance(event.metadata, dict) and "erased" in event.metadata


def _place(event: _Stored, key: tuple[str, str]) -> str:
    return f"version {event.version} of {key[0]} {key[1]!r}"


def _unfit(name: str, event: _Stored, key: tuple[str, str], error: msgspec.MsgspecError) -> InvalidInput:
    """The path of the field and what was expected there. The data themselves are nobody's business."""
    reason, _, path = str(error).partition(" - at `$")
    if len(reason) > _LONGEST_REASON:
        reason = f"{reason[:_LONGEST_REASON]}…"
    return InvalidInput(f"event_data{path.rstrip('`')}", f"{reason} in {name}, {_place(event, key)}")


def _check_upcasters(upcasters: dict[str, list[Upcaster]], classes: dict[str, Any]) -> None:
    for old, those in upcasters.items():
        for upcaster in those:
            way = f"{old} to {upcaster.new}"
            if upcaster.new not in classes and upcaster.new not in upcasters:
                raise InvalidInput("upcasters", "must lead to one of the classes", way)
            if old in classes and upcaster.when is None:
                raise InvalidInput("upcasters", "must say `when`: the old type has a class", way)
            if _leads_back(upcasters, upcaster):
                raise InvalidInput("upcasters", "must not go in a circle", way)


def _leads_back(upcasters: dict[str, list[Upcaster]], first: Upcaster) -> bool:
    # Data that changed under the same name are no circle: `when` ends it.
    if first.new == first.old:
        return first.when is None
    seen: set[str] = set()
    pending = [first.new]
    while pending:
        name = pending.pop()
        if name == first.old:
            return True
        if name not in seen:
            seen.add(name)
            pending.extend(upcaster.new for upcaster in upcasters.get(name, ()))
    return False
