"""Parked events: those that a subscription gave up after several attempts, kept until somebody decides."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from inspect import isawaitable
from typing import Any

from rootstream_store._limit import check_limit
from rootstream_store.db import Db, repository
from rootstream_store.errors import InvalidInput
from rootstream_store.flow import Flow, one
from rootstream_store.queries import query
from rootstream_store.records import Event, ParkedEvent
from rootstream_store.settings import redact

__all__ = ["discard_parked", "error_text", "list_parked", "park", "retry_parked"]

_PARK = query("subscriptions/park")
_LIST = query("subscriptions/list_parked", ParkedEvent)
_DISCARD = query("subscriptions/discard_parked", ParkedEvent)
_FIND_EVENT = query("subscriptions/find_event", Event)

_LONGEST_TEXT = 500
_SHORTEST_SECRET = 3
"""Characters of a value from which on it is taken out of an error's text."""
_WORD = re.compile(rf"\w{{{_SHORTEST_SECRET},}}")


@repository
def list_parked(db: Db, name: str, *, after_position: int = 0, limit: int = 100) -> list[ParkedEvent]:
    """The events that a subscription has parked, in the order of their positions.

    `after_position`: the position of the last one of the page before. `limit`: 1 to 1000.
    """
    return db.all(_LIST, name=name, after_position=after_position, limit=check_limit(limit))


@repository
def retry_parked(db: Db, name: str, position: int, handler: Callable[[Any, Event], object]) -> ParkedEvent:
    """Hands a parked event to `handler(tx, event)` once more, and takes it out when that succeeds, in one
    transaction. It is handled out of order: later events of its aggregate may have been handled before.

    The handler is a plain function, of an AsyncStore too, where `tx` waits as in `run_sync`. What it raises
    is raised, and the event stays parked. Raises NotFound when no such event is
    parked, or somebody else has just taken it. `Subscription.retry_parked` knows the handler.
    """
    return db.flow(_retry(name, position, handler), atomic=True)


@repository
def discard_parked(db: Db, name: str, position: int) -> ParkedEvent:
    """Takes an event out of those parked without handling it, and returns what was noted. Raises NotFound."""
    return db.one(_DISCARD, name=name, position=position)


def park(tx: Db, name: str, partition: int, event: Event, attempts: int, error: BaseException) -> None:
    """Keeps an event, in the transaction that moves the checkpoint past it."""
    tx.run(
        _PARK,
        name=name,
        position=event.position,
        partition=partition,
        aggregate_type=event.aggregate_type,
        aggregate_id=event.aggregate_id,
        event_type=event.event_type,
        attempts=attempts,
        error_class=type(error).__qualname__,
        error_text=error_text(error, event),
    )


def error_text(error: BaseException, event: Event) -> str:
    """The error in one line, without passwords and without what the event holds: logs and the table of parked
    events are read by more people than the log is."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001  # a stranger's __str__; the class of the error is told beside
        text = "(no text)"
    values = set(_texts((event.event_data, event.metadata)))
    # Longest first, as one value may be part of another.
    for value in sorted(values, key=len, reverse=True):
        text = text.replace(value, "***")
    # What was cut off or escaped on its way into the text is found word by word.
    held = "\n".join(values).casefold()
    text = _WORD.sub(lambda word: "***" if word[0].casefold() in held else word[0], redact(text))
    text = "".join(character if character.isprintable() else " " for character in text)
    return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 1] + "…"


def _texts(value: object) -> Iterator[str]:
    """Every value in a payload as it may stand in a text; names of fields are no secret."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)
    elif isinstance(value, str | int | float) and not isinstance(value, bool):
        text = str(value)
        if len(text) >= _SHORTEST_SECRET:
            yield text


def _retry(name: str, position: int, handler: Callable[[Any, Event], object]) -> Flow[ParkedEvent]:
    # Deleted first: the row is locked until the handler has done, and comes back when it fails.
    parked = yield from one(_DISCARD, name=name, position=position)
    event = yield from one(_FIND_EVENT, position=position)
    handled = yield lambda tx: handler(tx, event)
    if isawaitable(handled):
        # Nobody would run it, and the event would be taken out all the same.
        raise InvalidInput("handler", "must be a plain function, not a coroutine")
    return parked
