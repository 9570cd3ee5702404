"""Tamper evidence: seals over one range of positions after the other, and the proof that nothing was changed.

A seal is a digest over the digest of every event of its range and over the seal before it. It is made off the
append path, whenever somebody asks for it. Whoever changes, deletes, inserts or swaps events later, by
whatever means, is found out by `verify`; whoever also makes all later seals anew is found out by whoever kept
the hash of one elsewhere, its anchor.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec

from rootstream_store._limit import check_limit
from rootstream_store.db import Db, repository
from rootstream_store.errors import InvalidInput
from rootstream_store.events._horizon import find_horizon
from rootstream_store.flow import Flow, compute, maybe, one
from rootstream_store.queries import query
from rootstream_store.records import Fault, Seal, Verification

__all__ = ["MAX_SEALED_POSITIONS", "find_last_seal", "seal", "verify"]

MAX_SEALED_POSITIONS = 100_000
"""Most positions of one seal. What is verified at a time has to fit into the server's memory."""

_NO_HASH = bytes(32)
"""What the first seal has for the one before it."""


class _Verified(msgspec.Struct, frozen=True):
    """A seal and what became of its range."""

    number: int
    first_position: int
    last_position: int
    event_count: int
    previous_hash: bytes
    hash: bytes
    is_intact: bool
    altered_erased_position: int | None


class _Found(msgspec.Struct, frozen=True):
    kind: str
    position: int
    aggregate_type: str | None
    aggregate_id: str | None
    version: int | None


class _Event(msgspec.Struct, frozen=True):
    position: int
    aggregate_type: str
    aggregate_id: str
    version: int


class _FalseErasure(msgspec.Struct, frozen=True):
    operation: int
    fault: str


_SEAL = query("events/seal", Seal)
_FIND_LAST = query("events/find_last_seal", Seal)
_VERIFY = query("events/verify_seal", _Verified)
_FIND_ALTERED = query("events/find_altered", _Found)
_FIND_EVENT_AT = query("events/find_event_at", _Event)
_FIND_SEALED_POSITION = query("events/find_sealed_position", int)
_FIND_FALSE_ERASURE = query("events/find_false_erasure", _FalseErasure)
_COUNT_UNSEALED = query("events/count_unsealed", int)


@repository
def seal(db: Db, *, limit: int = 10_000) -> Seal | None:
    """Seals the next range of the log, up to the horizon; None when all of it is sealed.

    `limit`: the most positions, 1 to 100,000. Several at once do no harm. To be run often, by a timer: what
    is not sealed yet can be changed unnoticed. Keep `hash.hex()` of a seal outside the database: it is an
    anchor for `verify`.

    Raises PermissionDenied for a role that is not the owner of the tables, Unavailable on a standby, Conflict
    in a transaction that is repeatable read or serializable.
    """
    return db.flow(_seal(check_limit(limit, "limit", MAX_SEALED_POSITIONS)))


@repository
def find_last_seal(db: Db) -> Seal | None:
    """The newest seal; None when there is none yet."""
    return db.maybe(_FIND_LAST)


@repository
def verify(
    db: Db, *, anchor: str | None = None, on_progress: Callable[[Verification], object] | None = None
) -> Verification:
    """Whether the log is what was sealed: every seal is made anew from what is there now, archived events
    included, up to the first that does not fit; then the records of erasures are held against the log.

    `anchor`: the hash of a seal, 64 hexadecimal digits, that was kept outside the database; None: that all
    seals were made anew or the newest deleted is then not noticed. `on_progress` is called after every seal
    with what was found so far. Takes about 5 µs an event, and memory for one seal at a time.

    Appending, archiving, erasing and sealing may go on meanwhile. Raises InvalidInput for what is no hash.
    """
    if anchor is not None and not (isinstance(anchor, str) and re.fullmatch(r"[0-9a-fA-F]{64}", anchor)):
        raise InvalidInput("anchor", "must be 64 hexadecimal digits", anchor)
    return db.flow(_verify(None if anchor is None else bytes.fromhex(anchor), on_progress))


def _seal(limit: int) -> Flow[Seal | None]:
    horizon = yield from find_horizon()
    while True:
        made = yield from maybe(_SEAL, limit=limit, to_position=horizon.position)
        if made is not None:
            return made
        last = yield from maybe(_FIND_LAST)
        if last is None or last.last_position >= horizon.position:
            return None
        # Another sealer was first with this one; the next may be ours.


def _verify(anchor: bytes | None, on_progress: Callable[[Verification], object] | None) -> Flow[Verification]:
    seals = events = last_position = 0
    head = _NO_HASH
    is_anchored = False
    fault: Fault | None = None
    while fault is None:
        found = yield from maybe(_VERIFY, after_number=seals)
        if found is None:
            break
        fault = _chain_fault(found, seals, last_position, head) or (yield from _range_fault(found))
        if fault is None:
            seals, last_position, head = found.number, found.last_position, found.hash
            events += found.event_count
            is_anchored = is_anchored or head == anchor
            if on_progress is not None:
                yield from compute(on_progress, _result(seals, events, 0, last_position, head, None))
    if fault is None:
        fault = yield from _erasure_fault()
    if fault is None and anchor is not None and not is_anchored:
        fault = Fault(
            kind="unanchored", detail="no seal has the hash of the anchor: seals were deleted or made anew"
        )
    unsealed = yield from one(_COUNT_UNSEALED, after_position=last_position)
    return _result(seals, events, unsealed, last_position, head, fault)


def _result(
    seals: int, events: int, unsealed: int, last_position: int, head: bytes, fault: Fault | None
) -> Verification:
    return Verification(
        fault=fault,
        seals=seals,
        sealed_events=events,
        unsealed_events=unsealed,
        last_position=last_position,
        head=head.hex() if seals else None,
    )


def _chain_fault(found: _Verified, seals: int, last_position: int, head: bytes) -> Fault | None:
    """Whether the seal follows the one before it."""
    if found.number != seals + 1:
        return Fault(kind="seal_missing", seal=seals + 1, detail=f"seal {seals + 1} is missing")
    if found.previous_hash != head:
        before = f"seal {seals} has not the hash that seal {found.number} was made over"
        return Fault(kind="seal_altered", seal=max(seals, 1), detail=before)
    if found.first_position != last_position + 1:
        return Fault(
            kind="seal_altered",
            seal=found.number,
            detail=f"seal {found.number} does not begin where the one before it ends",
        )
    return None


def _range_fault(found: _Verified) -> Flow[Fault | None]:
    """The first event of a seal's range that is not what it was."""
    erased = found.altered_erased_position
    if found.is_intact and erased is None:
        return None
    altered = None if found.is_intact else (yield from maybe(_FIND_ALTERED, number=found.number))
    if altered is not None and (erased is None or altered.position <= erased):
        return (yield from _altered(found.number, altered))
    if erased is not None:
        event = yield from one(_FIND_EVENT_AT, position=erased)
        return _fault_of("altered", found.number, event, "is not what its erasure left")
    return Fault(
        kind="seal_altered",
        seal=found.number,
        detail=f"seal {found.number} was altered: its events are those that it names",
    )


def _altered(number: int, found: _Found) -> Flow[Fault]:
    if found.kind == "missing":
        return Fault(
            kind="missing",
            seal=number,
            position=found.position,
            detail=f"the event at position {found.position} is missing",
        )
    event = _Event(found.position, found.aggregate_type or "", found.aggregate_id or "", found.version or 0)
    if found.kind == "inserted":
        return _fault_of("inserted", number, event, "was inserted after the log was sealed")
    sealed_at = yield from maybe(_FIND_SEALED_POSITION, number=number, position=found.position)
    if sealed_at is not None:
        return _fault_of("reordered", number, event, f"was at position {sealed_at} when it was sealed")
    return _fault_of("altered", number, event, "is not what was sealed")


def _fault_of(kind: str, number: int, event: _Event, what: str) -> Fault:
    name = f"{event.aggregate_type} {event.aggregate_id!r} version {event.version}"
    return Fault(
        kind=kind,
        seal=number,
        position=event.position,
        aggregate_type=event.aggregate_type,
        aggregate_id=event.aggregate_id,
        version=event.version,
        detail=f"{name} at position {event.position} {what}",
    )


def _erasure_fault() -> Flow[Fault | None]:
    found = yield from maybe(_FIND_FALSE_ERASURE)
    if found is None:
        return None
    return Fault(
        kind="erasure_false",
        operation=found.operation,
        detail=f"erasure {found.operation} is not as it is told: {found.fault}",
    )
