"""Why an append was refused, by a second look: it was made before, its id is taken, or another writer came
first. The append itself says nothing, so that a conflict is no error on the server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar
from uuid import UUID

from rootstream_store.errors import (
    AlreadyExists,
    Conflict,
    RootStreamError,
    StoreClosed,
    Timeout,
    Unavailable,
    VersionConflict,
)
from rootstream_store.events._new_event import EXISTS, NO_STREAM, Expected
from rootstream_store.flow import Flow, rows
from rootstream_store.queries import Query, query
from rootstream_store.records import AggregateHead, Appended, RepeatedEvent

__all__ = ["attempt", "explain", "find_repeated", "settled"]

R = TypeVar("R")
T = TypeVar("T")

_FIND_REPEATED = query("events/find_repeated", RepeatedEvent)
_LIST_HEADS = query("events/list_heads", AggregateHead)

_EVENT_ID_KEY = "event_log_event_id_key"
_HEAD_KEY = "aggregates_pkey"
_FAILED_TRANSACTION = "25P02"
_ATTEMPTS = 3

Wanted = tuple[str, str, int | Expected]
"""Aggregate type, aggregate id, and what is expected of it."""


def in_doubt(steps: Flow[T], doubt: RootStreamError | None) -> Flow[T]:
    """What ends without an answer after an attempt that may have been applied leaves that as unknown."""
    try:
        return (yield from steps)
    except (Unavailable, Timeout, StoreClosed, Conflict) as error:
        if (
            isinstance(doubt, Unavailable)
            and doubt.outcome_unknown
            and (not isinstance(error, Conflict) or error.retryable)
        ):
            raise doubt from error
        raise


def attempt(
    statement: Query[R],
    params: Mapping[str, object],
    *,
    is_repeatable: bool,
    doubt: RootStreamError | None = None,
) -> Flow[tuple[list[R], RootStreamError | None]]:
    """Runs an append, again where nobody knows how the last attempt ended and it cannot be applied twice.

    The error in the result: one after which the append may have been made, although no row came back."""
    for number in range(_ATTEMPTS):
        last = number == _ATTEMPTS - 1
        try:
            return (yield from in_doubt(rows(statement, **params), doubt)), doubt
        except Unavailable as error:
            if last or not (error.outcome_unknown and is_repeatable):
                raise
            doubt = error
        except AlreadyExists as error:
            if error.constraint == _EVENT_ID_KEY:
                return [], error  # by the same append, made at this very moment
            if last or error.constraint != _HEAD_KEY:
                raise
            doubt = (
                doubt or error
            )  # somebody made the aggregate just now: it has a head row to lock next time
        except Conflict as error:
            raise _of_transaction(error, doubt) from error
    raise AssertionError("the last attempt returns or raises")


def find_repeated(
    params: Mapping[str, object],
    owners: Mapping[str, object],
    expected: int | None,
    chosen_ids: Sequence[UUID],
    doubt: RootStreamError | None,
) -> Flow[list[RepeatedEvent]]:
    """What stands in the log where these events would stand, were they appended before."""
    names = ("heads", "event_data", "metadata")
    found = rows(
        _FIND_REPEATED,
        **{name: params[name] for name in names},
        **owners,
        expected=expected,
        chosen_ids=list(chosen_ids),
    )
    try:
        return (yield from in_doubt(found, doubt))
    except Conflict as error:
        raise _of_transaction(error, doubt) from error


def settled(
    found: Sequence[RepeatedEvent], ids: Sequence[str], chosen_ids: Sequence[UUID], file: str
) -> list[Appended] | None:
    """The first result of an append that was made before; None when it was not. Raises AlreadyExists for an
    id that other content has."""
    if len(found) == len(ids) and all(event.is_same for event in found):
        return [
            Appended(
                version=event.version,
                position=event.position,
                event_id=event.event_id,
                timestamp=event.timestamp,
            )
            for event in found
        ]
    taken = {event.event_id for event in found}.intersection(chosen_ids)
    if not taken:
        return None
    other = {UUID(ids[event.number - 1]) for event in found if not event.is_same}
    culprit = min((other & taken) or taken)
    error = AlreadyExists("event", "event_id", culprit, query=file, constraint=_EVENT_ID_KEY)
    error.add_note("an append with this id was made before, and was not the same")
    raise error


def explain(wanted: Sequence[Wanted], file: str) -> Flow[Conflict]:
    """Which aggregate is not as it was expected to be: the first of them."""
    heads = yield from rows(
        _LIST_HEADS,
        aggregate_ids=[aggregate_id for _, aggregate_id, _ in wanted],
        aggregate_types=[aggregate_type for aggregate_type, _, _ in wanted],
    )
    found = {(head.aggregate_type, head.aggregate_id): head for head in heads}
    for aggregate_type, aggregate_id, expected in wanted:
        head = found.get((aggregate_type, aggregate_id))
        if head is not None and head.is_closed:
            return Conflict(
                f"{aggregate_type} {aggregate_id!r} is closed: no further event is accepted", query=file
            )
        actual = 0 if head is None else head.version
        if len(wanted) == 1 or not _is_met(expected, actual):
            return VersionConflict(aggregate_type, aggregate_id, expected, actual, query=file)
    return Conflict("another writer came first, and all is as it was expected now: try again", query=file)


def _is_met(expected: int | Expected, actual: int) -> bool:
    if isinstance(expected, Expected):
        return {NO_STREAM: actual == 0, EXISTS: actual > 0}.get(expected, True)
    return expected == actual


def _of_transaction(error: Conflict, doubt: RootStreamError | None) -> RootStreamError:
    """What ended a transaction, rather than that it has ended."""
    if doubt is None or error.sqlstate != _FAILED_TRANSACTION:
        return error
    conflict = Conflict(
        f"another append came first, and the transaction must be run again: {doubt.message}",
        sqlstate=doubt.sqlstate,
        constraint=doubt.constraint,
        query=doubt.query,
    )
    conflict.retryable = True
    return conflict
