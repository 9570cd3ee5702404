"""What the event log should be, in plain Python: lists of events, sets of snapshots, and what an append, a
load or a close does to them. The state machine of test_model.py holds the real one against it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from rootstream_store.errors import Conflict, NotFound, RootStreamError, VersionConflict
from rootstream_store.events import ANY, EXISTS, NO_STREAM, Expected

__all__ = ["Aggregate", "Key", "Model", "Written"]

Key = tuple[str, str]
"""Aggregate type and id."""


@dataclass(frozen=True)
class Written:
    """An event of the model."""

    key: Key
    version: int
    event_type: str
    data: Any
    user_id: int | None
    position: int
    timestamp: datetime


@dataclass
class Aggregate:
    events: list[Written] = field(default_factory=list)
    is_closed: bool = False
    snapshots: dict[int, dict[int, Any]] = field(default_factory=dict)
    """Schema version → version → state."""

    @property
    def version(self) -> int:
        return len(self.events)

    def newest_snapshot(self, schema_version: int, to_version: int | None = None) -> int:
        """0: none."""
        known = self.snapshots.get(schema_version, {})
        return max((version for version in known if to_version is None or version <= to_version), default=0)


class Model:
    """All that a reader of one transaction sees."""

    def __init__(self) -> None:
        self.aggregates: dict[Key, Aggregate] = {}

    def copy(self) -> Model:
        return copy.deepcopy(self)

    def of(self, key: Key) -> Aggregate:
        return self.aggregates.setdefault(key, Aggregate())

    def log(self) -> list[Written]:
        """The whole log in the order of its positions."""
        everything = (event for aggregate in self.aggregates.values() for event in aggregate.events)
        return sorted(everything, key=lambda event: event.position)

    # --- appending

    def refusal(self, key: Key, expected: int | Expected) -> tuple[type[RootStreamError], int] | None:
        """The error that an append must raise, and the version that it must tell; None: it succeeds."""
        aggregate = self.of(key)
        if aggregate.is_closed:
            return Conflict, aggregate.version
        fits = {ANY: True, NO_STREAM: aggregate.version == 0, EXISTS: aggregate.version > 0}
        if fits[expected] if isinstance(expected, Expected) else expected == aggregate.version:
            return None
        return VersionConflict, aggregate.version

    def append(self, event: Written) -> None:
        events = self.of(event.key).events
        assert event.version == len(events) + 1
        events.append(event)

    # --- snapshots

    def save(self, key: Key, version: int, schema_version: int, state: Any) -> type[RootStreamError] | None:
        aggregate = self.of(key)
        if not 1 <= version <= aggregate.version:
            return NotFound
        known = aggregate.snapshots.setdefault(schema_version, {})
        if known.setdefault(version, state) != state:
            return Conflict
        return None

    def loaded(self, key: Key, schema_version: int, every: int | None, keep: int, state: Any) -> bool:
        """What a load of the newest version leaves behind; `state` is what it must have found. True: a
        snapshot."""
        aggregate = self.of(key)
        base = aggregate.newest_snapshot(schema_version)
        if every is None or aggregate.version // every <= base // every:
            return False
        known = aggregate.snapshots.setdefault(schema_version, {})
        known[aggregate.version] = state
        for version in sorted(known, reverse=True)[keep:]:
            del known[version]
        return True

    def prune(self, key: Key, keep: int, schema_version: int | None) -> int:
        deleted = 0
        for shape, known in self.of(key).snapshots.items():
            if schema_version in (None, shape):
                for version in sorted(known, reverse=True)[keep:]:
                    del known[version]
                    deleted += 1
        return deleted


def folded(apply: Callable[[Any, Any], Any], initial: Any, events: Sequence[Any]) -> Any:
    state = initial
    for event in events:
        state = apply(state, event)
    return state


def chosen(
    events: Sequence[Written],
    *,
    event_types: Sequence[str] | None,
    since: datetime | None,
    backward: bool = False,
    limit: int = 1000,
) -> list[Written]:
    """What filters leave of `events`."""

    def left() -> Iterator[Written]:
        for event in reversed(events) if backward else events:
            if event_types is not None and event.event_type not in event_types:
                continue
            if since is None or event.timestamp >= since:
                yield event

    return list(left())[:limit]
