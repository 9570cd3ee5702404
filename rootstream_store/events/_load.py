"""Loading the state of an aggregate: the newest snapshot and the events after it, in one round trip."""

from __future__ import annotations

import copy
import functools
import logging
import weakref
from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime
from typing import Any, TypeVar, overload
from uuid import UUID

import msgspec

from rootstream_store.async_db import AsyncDb
from rootstream_store.db import Db, repository
from rootstream_store.errors import DatabaseError, InvalidInput, NotFound, RootStreamError
from rootstream_store.events._fold import Fold, Loaded
from rootstream_store.events._keys import LAST, id_text
from rootstream_store.events._types import RawEvent
from rootstream_store.flow import Flow, atomically, one, run
from rootstream_store.queries import query
from rootstream_store.records import Event

__all__ = ["load"]

S = TypeVar("S")

_log = logging.getLogger("rootstream_store.events")

_PAGE = 256
"""Events of one statement. Even if all had data and metadata of the largest size, their JSON, with the blanks
that jsonb adds, stays below 1 GB, where PostgreSQL's texts end."""

_NO_SNAPSHOT = 0
"""A schema version that no snapshot has."""

_owners: weakref.WeakKeyDictionary[Db, dict[tuple[str, int], object]] = weakref.WeakKeyDictionary()
"""By aggregate type and schema version: the code that folded first."""

_warned: set[tuple[str, str]] = set()


class _Page(msgspec.Struct, frozen=True, kw_only=True):
    """A row of sql/events/load.sql."""

    version: int
    """Of the snapshot. 0: none."""
    position: int
    """Of the event that the snapshot includes last. 0: none."""
    state: str | None
    """JSON. None: no snapshot."""
    events: str | None
    """A JSON array of arrays; see RawEvent. None: no event, or none that is not archived."""
    last_version: int
    """Of the aggregate."""
    is_writable: bool
    """False: on a standby, or in a read-only transaction."""


class _ArchivedPage(msgspec.Struct, frozen=True, kw_only=True):
    """The row of sql/events/load_archived.sql."""

    events: str | None
    """As that of _Page."""


class _StoredEvent(msgspec.Struct, array_like=True, frozen=True):
    """As RawEvent, with decoded data."""

    position: int
    version: int
    event_type: str
    event_id: UUID
    event_data: Any
    metadata: Any
    user_id: int | None
    timestamp: datetime


_LOAD = query("events/load", _Page)
_LOAD_ARCHIVED = query("events/load_archived", _ArchivedPage)
_KEEP = query("events/keep_snapshot")
_decode = msgspec.json.Decoder(list[_StoredEvent]).decode
_decode_raw = msgspec.json.Decoder(list[RawEvent]).decode


@overload
def load(
    db: Db, aggregate_type: str, aggregate_id: str | int, fold: Fold[S], *, to_version: int | None = None
) -> Loaded[S]: ...
@overload
def load(
    db: Db,
    aggregate_type: str,
    aggregate_id: str | int,
    fold: Callable[[S, Event], S],
    initial: S | Callable[[], S],
    *,
    to_version: int | None = None,
) -> Loaded[S]: ...
@overload
def load(
    db: AsyncDb, aggregate_type: str, aggregate_id: str | int, fold: Fold[S], *, to_version: int | None = None
) -> Coroutine[Any, Any, Loaded[S]]: ...
@overload
def load(
    db: AsyncDb,
    aggregate_type: str,
    aggregate_id: str | int,
    fold: Callable[[S, Event], S],
    initial: S | Callable[[], S],
    *,
    to_version: int | None = None,
) -> Coroutine[Any, Any, Loaded[S]]: ...
@repository
def load(
    db: Db,
    aggregate_type: str,
    aggregate_id: str | int,
    fold: Fold[Any] | Callable[[Any, Event], Any],
    initial: Any = None,
    *,
    to_version: int | None = None,
) -> Loaded[Any]:
    """The state of an aggregate: its newest snapshot and all later events, folded. One round trip, whatever
    the aggregate's length; without a snapshot all its events are read, 256 in a round trip.

    `fold`: a Fold, or the function alone, with `initial` as the state before the first event: a value, which
    is copied, or a class or function that makes it. The function alone has the settings that a Fold has by
    default. `to_version`: the state as of this version, included; None: of the newest.

    Past each hundredth event (see `Fold.snapshot_every`) a snapshot is saved on the way and old ones are
    deleted, in a transaction or savepoint of its own. A load never fails for that, nor waits for another that
    does the same: when it cannot be saved, or the state is above 1 MiB, a warning is logged, the first time.
    Nothing is saved with `to_version`, on a standby and in a read-only transaction. A role that may not write
    snapshots should have `snapshot_every=None`, to be spared the attempt.

    A snapshot whose state does not fit the type of the state, or that is of another schema version, is passed
    over. Raises NotFound when an event is missing in between, InvalidInput for a state that does not come
    back from JSON (told at the first load with a Fold) and for another fold of the same type and schema
    version; and what EventTypes and the function raise, with the event in a note.
    """
    if isinstance(fold, Fold):
        if initial is not None:
            raise InvalidInput("initial", "is given to the Fold", initial)
    else:
        first = initial if callable(initial) else lambda: copy.deepcopy(initial)
        fold = Fold(fold, first)
        fold.is_checked = True  # at each snapshot, not at each call
    if fold.schema_version is not None and type(aggregate_type) is str:  # else the query tells of it
        _claim(db, aggregate_type, fold.schema_version, fold.apply)
    return db.flow(_load(fold, (aggregate_type, id_text(aggregate_id)), to_version))


def _load(fold: Fold[S], key: tuple[str, str], to_version: int | None) -> Flow[Loaded[S]]:
    state, version, position, base = fold.initial(), 0, 0, 0
    schema_version = fold.schema_version or _NO_SNAPSHOT
    params = {"aggregate_type": key[0], "aggregate_id": key[1]}
    end = LAST if to_version is None else to_version
    is_last = False
    while not is_last:
        page = yield from one(
            _LOAD,
            **params,
            schema_version=schema_version,
            after_version=version,
            to_version=end,
            limit=_PAGE,
        )
        if page.state is not None:
            try:
                state = fold.from_snapshot(page.state)
            except msgspec.MsgspecError as error:
                _warn(key[0], f"snapshots of schema version {schema_version} are of another shape: {error}")
                schema_version = _NO_SNAPSHOT
                continue
            version = base = page.version
            position = page.position
        document = page.events
        if document is None and version >= min(page.last_version, end):
            break
        is_raw = fold.types is not None
        found = [] if document is None else _decoded(document, key, is_raw=is_raw)
        is_last = 0 < len(found) < _PAGE
        if not found or found[0].version != version + 1:
            # What is missing is archived: so seldom that it may cost a statement of its own.
            last = found[0].version - 1 if found else end
            archived = yield from one(
                _LOAD_ARCHIVED, **params, after_version=version, to_version=last, limit=_PAGE
            )
            if archived.events is not None:
                found, is_last = _decoded(archived.events, key, is_raw=is_raw), False
        _check_versions(found, version, key)
        state = _apply(fold, key, state, found)
        version, position = found[-1].version, found[-1].position
    loaded = Loaded(state, version, position)
    if version > base and to_version is None and page.is_writable:
        yield from _keep(fold, params, loaded, base)
    return loaded


def _decoded(document: str, key: tuple[str, str], *, is_raw: bool) -> list[RawEvent] | list[_StoredEvent]:
    try:
        return _decode_raw(document) if is_raw else _decode(document)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise DatabaseError(
            f"an event of {key[0]} {key[1]!r} cannot be read by Python: {error}", query=_LOAD.file
        ) from error


def _check_versions(found: Sequence[RawEvent | _StoredEvent], after: int, key: tuple[str, str]) -> None:
    """A state without some of its events would be wrong, and nobody would see it."""
    if found and found[-1].version == after + len(found):
        return
    missing = next(
        (number for number, event in enumerate(found, after + 1) if event.version != number), after + 1
    )
    wanted: dict[str, object] = {"aggregate_type": key[0], "aggregate_id": key[1], "version": missing}
    raise NotFound("event", wanted, query=_LOAD.file)


def _apply(fold: Fold[S], key: tuple[str, str], state: S, found: list[RawEvent] | list[_StoredEvent]) -> S:
    apply, types = fold.apply, fold.types
    event: Any = None
    try:
        for event in found:
            if types is None:
                state = apply(state, _event(event, key))
            elif (typed := types.decode_raw(event, key)) is not None:
                state = apply(state, typed)
    except Exception as error:
        error.add_note(f"folding {event.event_type}, version {event.version} of {key[0]} {key[1]!r}")
        raise
    return state


def _event(stored: _StoredEvent, key: tuple[str, str]) -> Event:
    return Event(
        position=stored.position,
        aggregate_type=key[0],
        aggregate_id=key[1],
        version=stored.version,
        event_type=stored.event_type,
        event_id=stored.event_id,
        event_data=stored.event_data,
        metadata=stored.metadata,
        user_id=stored.user_id,
        timestamp=stored.timestamp,
    )


def _keep(fold: Fold[S], params: dict[str, str], loaded: Loaded[S], base: int) -> Flow[None]:
    """Saves a snapshot where it is due."""
    every = fold.snapshot_every
    if every is None:
        return
    # Not version % every == 0: batches jump over exact multiples.
    is_due = loaded.version // every > base // every
    if not is_due and fold.is_checked:
        return
    text = fold.to_snapshot(loaded.state)
    aggregate_type = params["aggregate_type"]
    if text is None:
        _warn(aggregate_type, "the state is too large for a snapshot: every load reads all events")
    elif is_due:
        saving = run(
            _KEEP,
            **params,
            version=loaded.version,
            position=loaded.position,
            schema_version=fold.schema_version,
            state=text,
            keep=fold.keep_snapshots,
        )
        try:
            yield from atomically(saving)
        except RootStreamError as error:
            # The caller asked for the state, and has it. The next load tries again.
            _warn(aggregate_type, f"no snapshot was saved: {type(error).__name__}: {error}")


def _claim(db: Db, aggregate_type: str, schema_version: int, apply: Callable[..., Any]) -> None:
    """Refuses a fold that would read the snapshots of another as its own."""
    code = _code_of(apply)
    if _owners.setdefault(db, {}).setdefault((aggregate_type, schema_version), code) != code:
        raise InvalidInput(
            "schema_version",
            f"must differ from that of another fold of {aggregate_type}: they would read each other's "
            "snapshots",
            schema_version,
        )


def _code_of(function: Any) -> object:
    """What tells functions apart; the same for all that one `def` or `lambda` made."""
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(getattr(function, "__func__", function), "__code__", function)


def _warn(aggregate_type: str, what: str) -> None:
    """Once for each type and reason: what is wrong with one aggregate is so with most of its type."""
    reason = (aggregate_type, what.partition(":")[0])
    if reason not in _warned:
        _warned.add(reason)
        _log.warning("%s: %s", aggregate_type, what)
