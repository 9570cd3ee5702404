"""Folds: how the events of an aggregate become its state, and how that state becomes a snapshot and comes
back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

import msgspec

from rootstream_store.errors import InvalidInput
from rootstream_store.events._payload import MAX_PAYLOAD_BYTES, to_json
from rootstream_store.events._types import EventTypes, TypedEvent
from rootstream_store.records import Event

__all__ = ["Fold", "Loaded"]

S = TypeVar("S")
E = TypeVar("E")


class Loaded(msgspec.Struct, Generic[S], frozen=True):
    """An aggregate's state."""

    state: S
    version: int
    """Of the last event in it; what the next append expects. 0: the aggregate has no event."""
    position: int
    """Of that event in the whole log; 0: none."""


class Fold(Generic[S]):
    """How the events of one type of aggregate become its state, made once and used for every load.

    `apply`: from the state and the next event to the new state, which may be the old one, changed. With
    `types` it gets a TypedEvent, without an Event. `initial`: makes the state before the first event: a
    class, or any function without parameters.

    `schema_version`: of the shape and the meaning of the state, from 1. Raise it whenever `apply` or the
    state changes: snapshots of other versions are not read. Snapshots are told apart by it alone: where an
    aggregate type has two folds, each needs a number of its own, and on one Store a load with another
    function is refused. None: no snapshot is read or saved.

    `snapshot_every`: a load that has come past a multiple of so many events since the last snapshot saves
    one. None: never, for a role that may not write; those of others are read all the same.
    `keep_snapshots`: how many of an aggregate are kept then, from 1; older ones of this schema version are
    deleted. `state_type`: what a snapshot's JSON is decoded to, as msgspec takes it: `dict[int, Viewer]`.
    None: the class of the initial state.

    Raises InvalidInput for a setting that is out of range.
    """

    @overload
    def __init__(
        self,
        apply: Callable[[S, Event], S],
        initial: Callable[[], S],
        *,
        types: None = None,
        schema_version: int | None = 1,
        snapshot_every: int | None = 100,
        keep_snapshots: int = 2,
        state_type: Any = None,
    ) -> None: ...
    @overload
    def __init__(
        self,
        apply: Callable[[S, TypedEvent[E]], S],
        initial: Callable[[], S],
        *,
        types: EventTypes[E],
        schema_version: int | None = 1,
        snapshot_every: int | None = 100,
        keep_snapshots: int = 2,
        state_type: Any = None,
    ) -> None: ...
    def __init__(
        self,
        apply: Callable[[S, Any], S],
        initial: Callable[[], S],
        *,
        types: EventTypes[Any] | None = None,
        schema_version: int | None = 1,
        snapshot_every: int | None = 100,
        keep_snapshots: int = 2,
        state_type: Any = None,
    ) -> None:
        for name, function in (("apply", apply), ("initial", initial)):
            if not callable(function):
                raise InvalidInput(name, "must be a function", function)
        settings = {"schema_version": schema_version, "snapshot_every": snapshot_every}
        for name, value in [*settings.items(), ("keep_snapshots", keep_snapshots)]:
            if value is None and name in settings:
                continue
            if type(value) is not int or not 1 <= value < 2**63:
                raise InvalidInput(name, "must be a whole number from 1 on", value)
        if types is not None and not isinstance(types, EventTypes):
            raise InvalidInput("types", "must be EventTypes", types)
        self.apply = apply
        self.initial = initial
        self.types = types
        self.schema_version = schema_version
        self.snapshot_every = None if schema_version is None else snapshot_every
        self.keep_snapshots = keep_snapshots
        if state_type is None:
            state_type = type(initial())
        try:
            self._decode: Callable[[str], S] = msgspec.json.Decoder(state_type).decode
        except TypeError as error:
            raise InvalidInput("state_type", f"is none that msgspec can decode: {error}") from error
        self.is_checked = self.snapshot_every is None
        """Whether a state was found to come back from JSON, so that the first load tells and not the
        hundredth event."""

    def from_snapshot(self, text: str) -> S:
        """The state in a snapshot. Raises msgspec.MsgspecError when it is of another shape."""
        return self._decode(text)

    def to_snapshot(self, state: S) -> str | None:
        """The JSON of `state`; None when it is larger than a snapshot may be.

        Raises InvalidInput for a state that JSON cannot hold, and for one that would not come back equal: an
        integer as a key is text in JSON, and a time in a dict too.
        """
        try:
            # In a list, as the state may be a plain number.
            text = to_json([state], "state")[1:-1]
        except InvalidInput:
            if _is_too_large(state):
                return None
            raise
        try:
            back = self._decode(text)
        except msgspec.MsgspecError as error:
            raise InvalidInput("state", f"does not come back from JSON: {error}; give `state_type`") from None
        # Of a class without an __eq__ nobody can tell.
        if type(state).__eq__ is not object.__eq__ and back != state:
            raise InvalidInput(
                "state", "does not come back from JSON as it was; give `state_type`, or snapshot_every=None"
            )
        self.is_checked = True
        return text


def _is_too_large(state: object) -> bool:
    try:
        return len(msgspec.json.encode(state)) + 2 > MAX_PAYLOAD_BYTES
    except (TypeError, ValueError, OverflowError, RecursionError):
        return False
