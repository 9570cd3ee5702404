"""Rebuilding a projection beside the one that serves, and switching over at once.

The copy has a schema and a checkpoint of its own. When it has come close to the end of the log, one
transaction locks the checkpoint of the one that serves, hands the copy what is left, renames both schemas and
moves the checkpoint: no event is missing from it, none is in it twice, and readers see the one or the other.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import timedelta

from uuid_utils.compat import uuid7

from rootstream_store.errors import Conflict, PermissionDenied, RootStreamError, StoreClosed, Unavailable
from rootstream_store.events._checkpoint import (
    Member,
    create,
    delete_subscription,
    list_checkpoints,
    read_page,
)
from rootstream_store.events._consumer import Consumer, Options, is_passing
from rootstream_store.events._horizon import get_horizon
from rootstream_store.events._keys import LAST
from rootstream_store.events._projection import Projection, create_copy, use_copy
from rootstream_store.queries import query
from rootstream_store.store import Store

__all__ = ["rebuild"]

_log = logging.getLogger("rootstream_store.events")

_LOCK = query("projections/lock_schemas", bool)
_HAS_SCHEMA = query("projections/has_schema", bool)
_DROP_SCHEMA = query("projections/drop_schema", bool)
_SWITCH_SCHEMAS = query("projections/switch_schemas", bool)
_LOCK_CHECKPOINTS = query("projections/lock_checkpoints", int)
_MOVE_CHECKPOINTS = query("projections/move_checkpoints")
_LOCK_LOG = query("projections/lock_log")
_RESTORE_PATH = query("projections/restore_path", str)

_LEASE = 10.0
"""Seconds after which a rebuild that was killed may be made anew."""
_IN_VAIN = 20
"""Batches that bring a rebuild no nearer to the end, after which it switches over from where it is."""
_FARTHEST = 50
"""As many times the distance from which it does so otherwise."""
_SWITCHES = 100
"""Attempts to switch over."""
_REFUSED = 10
"""Attempts that end otherwise than by a failure of the database that passes."""


class _Lost(Conflict):
    """Nothing that is tried again would help."""


def rebuild(
    store: Store,
    projection: Projection,
    *,
    progress: Callable[[int, int], object] | None = None,
    keep_old: bool = False,
    inline: bool = False,
    batch_size: int = 1000,
    max_attempts: int = 5,
    retry_pause: float = 0.1,
) -> int:
    """Makes a projection anew from the whole log, while the old tables go on to serve and to be kept up to
    date, then puts the new ones in their place. Returns the number of events handled or parked.

    `progress(done, total)`: called after each batch with positions of the log. `keep_old`: the old tables are
    left in the schema `projection_<name>__old` until the next rebuild; else dropped. `inline`: for a
    projection that appends write themselves (Inline): appends wait while it is switched over, which needs the
    right to lock event_log. `batch_size`: most events of one transaction; also about how many the switch
    handles while it holds its locks. Events that fail are tried again and parked as by Subscription.

    A projection that nobody keeps up to date yet gets a checkpoint of one partition. One that was killed may
    be run again after ten seconds: it starts over. Raises Conflict when another one is under way,
    PermissionDenied where the role may not create schemas, InvalidInput.
    """
    projection.create(store)
    member = Member(f"{projection.name}:rebuild", uuid7(), timedelta(seconds=_LEASE))
    _await_lease(store, member.name)
    _begin(store, projection, member)
    options = Options(
        name=member.name,
        event_types=projection.event_types,
        aggregate_type=projection.aggregate_type,
        batch_size=batch_size,
        partitions=1,
        max_attempts=max_attempts,
        retry_pause=retry_pause,
        is_batch=projection.is_batch,
    )
    consumer = Consumer(
        store,
        options,
        member,
        projection.handler,
        lambda tx: use_copy(tx, projection, "__new"),
        None,
        threading.Event(),
    )
    report = progress or (lambda *_: None)
    done = (0, 0)
    try:
        near, refused = batch_size, 0
        for attempt in range(1, _SWITCHES + 1):
            position = _catch_up(store, consumer, near, report)
            try:
                done = _switch(store, projection, member, options, position, inline)
                break
            except (_Lost, PermissionDenied, StoreClosed):
                raise
            except Exception as error:
                if _is_done(store, projection, error):
                    break
                # An event of the last few that fails is parked by the way that all go, not under the locks.
                refused += not is_passing(error)
                if attempt == _SWITCHES or refused == _REFUSED:
                    raise
                _log.warning("%s was not switched over: %s", projection.name, type(error).__name__)
                near = 1
    finally:
        consumer.close()
    report(done[0], done[0])
    if not keep_old:
        _drop_old(store, projection)
    return consumer.handled + done[1]


def _await_lease(store: Store, name: str) -> None:
    """Returns when nobody has the lease; one that is not renewed is that of a rebuild that was killed."""
    first = None
    while leased := [checkpoint for checkpoint in list_checkpoints(store, name) if checkpoint.is_leased]:
        expires_at = leased[0].lease_expires_at
        first = first or expires_at
        if expires_at != first:
            raise Conflict(f"another {name} is under way, by {leased[0].owner}")
        time.sleep(0.1)


def _begin(store: Store, projection: Projection, member: Member) -> None:
    """An empty copy whose lease is ours, in one transaction: of two that begin, one does."""
    with store.transaction() as tx:
        tx.one(_LOCK, projection=projection.name)
        if list_checkpoints(tx, member.name):
            delete_subscription(tx, member.name)
        tx.one(_DROP_SCHEMA, projection=projection.name, suffix="__new")
        create_copy(tx, projection, "__new")
        tx.flow(create(member.name, 1, 0))
        member.claim(tx)


def _catch_up(store: Store, consumer: Consumer, near: int, report: Callable[[int, int], object]) -> int:
    """Until no more than `near` positions are left, or appends are as fast as the handler and it comes no
    nearer. The position of the checkpoint."""
    least, in_vain = LAST, 0
    while True:
        try:
            consumer.claim()
            if consumer.position is None:
                raise _Lost("the rebuild has lost its lease, to another one it seems; run it again")
            horizon = get_horizon(store).position
            moved = consumer.round(horizon)
            position = consumer.position
            if position is not None:
                report(position, horizon)
                left = horizon - position
                least, in_vain = (left, 0) if left < least else (least, in_vain + 1)
                if in_vain >= _IN_VAIN and left <= _FARTHEST * max(near, 1):
                    near = left
                if left <= near and (saved := consumer.save()) is not None:
                    return saved
            if not moved:
                time.sleep(consumer.idle_for(0.05))
        except RootStreamError as error:
            if not is_passing(error):
                raise
            _log.warning("a rebuild waits: %s", error)
            time.sleep(0.2)


def _switch(
    store: Store, projection: Projection, member: Member, options: Options, position: int, inline: bool
) -> tuple[int, int]:
    """The rest of the events, and the new copy in the place of the old one. Up to which position, and how
    many events these were."""
    handled = 0
    with store.transaction() as tx:
        tx.one(_LOCK, projection=projection.name)
        if inline:
            tx.run(_LOCK_LOG)
        is_new = not tx.all(_LOCK_CHECKPOINTS, name=projection.name)
        # After the locks: at least as far as the one that serves has ever come.
        horizon = get_horizon(tx).position
        if not member.advance(tx, 0, position, horizon):
            raise _Lost("the rebuild has lost its lease, to another one it seems; run it again")
        previous = use_copy(tx, projection, "__new")
        while position < horizon:
            page = read_page(
                tx,
                (0, 1),
                position,
                horizon,
                options.aggregate_type,
                options.event_types,
                options.batch_size,
            )
            for given in ([page] if page else []) if options.is_batch else page:
                projection.handler(tx, given)
            handled += len(page)
            position = page[-1].position if len(page) == options.batch_size else horizon
        tx.one(_RESTORE_PATH, previous=previous)
        tx.one(_DROP_SCHEMA, projection=projection.name, suffix="__old")
        tx.one(_SWITCH_SCHEMAS, projection=projection.name)
        tx.run(_MOVE_CHECKPOINTS, name=projection.name, rebuild_name=member.name, position=horizon)
        if is_new and not inline:
            # Nobody has kept it up to date so far; whoever does goes on from here.
            tx.flow(create(projection.name, 1, horizon))
    return horizon, handled


def _is_done(store: Store, projection: Projection, error: Exception) -> bool:
    """Whether a commit whose answer was lost has switched over."""
    lost = isinstance(error, Unavailable) and error.outcome_unknown
    return lost and not store.one(_HAS_SCHEMA, projection=projection.name, suffix="__new")


def _drop_old(store: Store, projection: Projection) -> None:
    try:
        store.one(_DROP_SCHEMA, projection=projection.name, suffix="__old")
    except RootStreamError as error:
        if not is_passing(error):
            raise
        # Somebody reads it still. It is empty of use, and the next rebuild drops it.
        _log.warning("the old tables of %s are left: %s", projection.name, error)
