"""The checkpoints of subscriptions: leases, fenced advances, lag, replay.

A partition is read by the member whose lease it has. A lease tells others when they may take over; what keeps
a member that lost it from doing harm is the advance: it names its owner and the position it starts from, and
stands first in the transaction of a batch, so that nobody can take the row over until the commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from rootstream_store.db import Db, repository
from rootstream_store.errors import Conflict, InvalidInput, NotFound
from rootstream_store.events._horizon import find_horizon
from rootstream_store.flow import Flow, rows, run
from rootstream_store.queries import Query, query
from rootstream_store.records import Checkpoint, Event, SubscriptionLag

__all__ = [
    "Member",
    "create",
    "delete_subscription",
    "list_checkpoints",
    "list_lag",
    "read_page",
    "reset",
]

_CREATE = query("subscriptions/create")
_LIST = query("subscriptions/list_checkpoints", Checkpoint)
_CLAIM = query("subscriptions/claim", Checkpoint)
_RELEASE = query("subscriptions/release")
_ADVANCE = query("subscriptions/advance")
_NOTE_FAILURE = query("subscriptions/note_failure", int)
_READ = query("subscriptions/read", Event)
_RESET = query("subscriptions/reset", int)
_DELETE = query("subscriptions/delete", int)
_LIST_LAG = query("subscriptions/list_lag", SubscriptionLag)


class Member:
    """One reader of a subscription: what it does to the checkpoints. `lease`: how long it may be silent."""

    def __init__(self, name: str, owner: UUID, lease: timedelta) -> None:
        self.name = name
        self.owner = owner
        self.lease = lease

    def claim(self, db: Db) -> list[Checkpoint]:
        """Its partitions from now on: those it has, up to its share, and free ones."""
        found = db.all(_CLAIM, name=self.name, owner=self.owner, lease=self.lease)
        return sorted(found, key=lambda checkpoint: checkpoint.partition)

    def release(self, db: Db) -> None:
        """Gives up all partitions, so that others need not wait for the leases to end."""
        db.run(_RELEASE, name=self.name, owner=self.owner)

    def advance(self, tx: Db, partition: int, position: int, to_position: int) -> bool:
        """Moves a checkpoint from `position`, and locks it until the transaction ends. False: it is another
        member's now, or was moved."""
        return bool(
            tx.run(
                _ADVANCE,
                name=self.name,
                partition=partition,
                owner=self.owner,
                lease=self.lease,
                position=position,
                to_position=to_position,
            )
        )

    def note_failure(
        self, db: Db, partition: int, position: int, failed_position: int, error: str
    ) -> int | None:
        """Counts a failed attempt and tells how many there were. None: as for `advance`."""
        return db.maybe(
            _NOTE_FAILURE,
            name=self.name,
            partition=partition,
            owner=self.owner,
            lease=self.lease,
            position=position,
            failed_position=failed_position,
            error=error,
        )


def create(name: str, partitions: int, position: int) -> Flow[list[Checkpoint]]:
    """The steps that make the checkpoints of a subscription, unless they are there. Raises Conflict when
    there are other partitions."""
    # Looked at first: an INSERT would wait for the batch that another member is in.
    found = yield from rows(_LIST, name=name)
    if not found:
        yield from run(_CREATE, name=name, partitions=partitions, position=position)
        found = yield from rows(_LIST, name=name)
    if len(found) != partitions:
        raise Conflict(
            f"subscription {name!r} has {len(found)} partitions, not {partitions}: with another number the "
            "order of an aggregate's events would be lost. Stop it, let all partitions come to one position, "
            "delete it and start it again from there",
            query=_CREATE.file,
        )
    return found


def read_page(
    db: Db,
    checkpoint: tuple[int, int],
    after_position: int,
    to_position: int,
    aggregate_type: str | None,
    event_types: Sequence[str] | None,
    limit: int,
) -> list[Event]:
    """Events of one partition, given as (partition, partitions), up to a position at or below the horizon."""
    partition, partitions = checkpoint
    return db.all(
        _READ,
        partition=partition,
        partitions=partitions,
        after_position=after_position,
        to_position=to_position,
        aggregate_type=aggregate_type,
        event_types=None if event_types is None else list(event_types),
        limit=limit,
    )


@repository
def list_checkpoints(db: Db, name: str) -> list[Checkpoint]:
    """How far each partition of a subscription has come. An empty list: it was never started."""
    return db.all(_LIST, name=name)


@repository
def list_lag(db: Db) -> list[SubscriptionLag]:
    """How far each partition of each subscription is behind, who reads it, and how many events are parked.

    Raises Unavailable on a standby, Conflict in a transaction that is repeatable read or serializable.
    """
    return db.flow(_list_lag())


@repository
def reset(db: Db, name: str, position: int, *, force: bool = False) -> None:
    """Has a subscription go on after `position`, in all its partitions: 0 replays the whole log.

    Parked events above it are parked no more: they come again. `force`: also while a member reads, which then
    takes up the new position; a batch under way is rolled back, or ends before.

    Raises NotFound for a subscription that was never started, Conflict while a member reads, InvalidInput.
    """
    if type(position) is not int or position < 0:
        raise InvalidInput("position", "must be a position of the log, from 0 on", position)
    return db.flow(_change(_RESET, name, {"position": position, "force": force}))


@repository
def delete_subscription(db: Db, name: str) -> None:
    """Forgets a subscription: its checkpoints and its parked events.

    Raises NotFound when there is none, Conflict while a member reads.
    """
    return db.flow(_change(_DELETE, name, {}))


def _change(statement: Query[int], name: str, values: dict[str, object]) -> Flow[None]:
    changed = yield from rows(statement, name=name, **values)
    if changed:
        return
    found = yield from rows(_LIST, name=name)
    if not found:
        raise NotFound("subscription", {"name": name}, query=statement.file)
    owners = sorted({str(checkpoint.owner) for checkpoint in found if checkpoint.is_leased})
    raise Conflict(
        f"subscription {name!r} is being read by {', '.join(owners) or 'somebody'}: stop it first",
        query=statement.file,
    )


def _list_lag() -> Flow[list[SubscriptionLag]]:
    horizon = yield from find_horizon()
    return (yield from rows(_LIST_LAG, horizon=horizon.position, last_position=horizon.last_position))
