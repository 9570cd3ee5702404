"""The event log: appending, reading, snapshots, subscriptions, and what its owner does to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime

from rootstream_store import events
from rootstream_store.db import Db
from rootstream_store.events import AggregateEvents, NewEvent
from rootstream_store.records import Event

from .._world import DATA, PAGE, World, make_aggregate, make_parked, make_rejected, make_subscription
from ._case import collect, fresh, steady

__all__ = ["EVENTS"]

BEFORE = datetime(2090, 1, 1, tzinfo=UTC)
TEN = [NewEvent("Changed", DATA)] * 10


def _name(_: object, world: World) -> str:
    return f"new{next(world.numbers)}"


def _drained(rows: AbstractContextManager[Iterator[Event]]) -> None:
    with rows as found:
        for _ in found:
            pass


def _snapshot(tx: Db, world: World) -> str:
    aggregate_id = make_aggregate(tx, world)
    events.save_snapshot(tx, "Stream", aggregate_id, version=1, state={"events": 1})
    return aggregate_id


def _closed(tx: Db, world: World) -> str:
    aggregate_id = make_aggregate(tx, world)
    events.close(tx, "Stream", aggregate_id)
    return aggregate_id


def _old(tx: Db, world: World) -> str:
    """A type of which one aggregate can be archived."""
    kind = f"Old{next(world.numbers)}"
    events.append_many(tx, kind, "1", TEN)
    events.close(tx, kind, "1")
    return kind


def _parked(tx: Db, world: World) -> tuple[str, int]:
    name = f"parked{next(world.numbers)}"
    make_parked(tx, name, world.position)
    return name, world.position


def _rejected(tx: Db, _: World) -> int:
    make_rejected(tx)
    return events.list_rejected(tx, limit=1000)[-1].id


EVENTS = collect(
    fresh(
        "events.append",
        lambda tx, w: w.user_id,
        lambda db, user: events.append(db, "Stream", "appended", "Changed", DATA, user_id=user),
    ),
    fresh("events.append_many", _name, lambda db, name: events.append_many(db, "Stream", name, TEN)),
    fresh(
        "events.append_together",
        _name,
        lambda db, name: events.append_together(
            db, [AggregateEvents("Stream", name, TEN), AggregateEvents("Viewer", name, TEN)]
        ),
    ),
    fresh(
        "events.import_events",
        _name,
        lambda db, name: events.import_events(db, [AggregateEvents("Stream", name, TEN * 10)]),
    ),
    steady("events.get", lambda db, w: events.get(db, *w.aggregate, 7)),
    steady("events.get_version", lambda db, w: events.get_version(db, *w.aggregate)),
    steady("events.find_head", lambda db, w: events.find_head(db, *w.aggregate)),
    steady("events.read", lambda db, w: events.read(db, *w.aggregate, limit=PAGE)),
    steady("events.stream", lambda db, w: _drained(events.stream(db, *w.aggregate))),
    steady("events.read_all", lambda db, w: events.read_all(db, limit=PAGE)),
    steady("events.stream_all", lambda db, w: _drained(events.stream_all(db, to_position=w.position + PAGE))),
    steady("events.list_by_user", lambda db, w: events.list_by_user(db, w.user_id, limit=PAGE)),
    steady("events.find_position", lambda db, w: events.find_position(db, BEFORE)),
    steady("events.get_horizon", lambda db, w: events.get_horizon(db)),
    steady("events.list_in_flight", lambda db, w: events.list_in_flight(db)),
    steady("events.load", lambda db, w: events.load(db, *w.aggregate, w.fold)),
    fresh(
        "events.save_snapshot",
        make_aggregate,
        lambda db, name: events.save_snapshot(db, "Stream", name, version=1, state={"events": 1}),
    ),
    steady("events.load_snapshot", lambda db, w: events.load_snapshot(db, *w.aggregate)),
    fresh(
        "events.prune_snapshots",
        _snapshot,
        lambda db, name: events.prune_snapshots(db, "Stream", name, keep=0),
    ),
    fresh("events.close", make_aggregate, lambda db, name: events.close(db, "Stream", name)),
    fresh("events.reopen", _closed, lambda db, name: events.reopen(db, "Stream", name)),
    fresh(
        "events.archive",
        _old,
        lambda db, kind: events.archive(db, before=BEFORE, aggregate_type=kind, limit=1),
    ),
    fresh(
        "events.erase",
        make_aggregate,
        lambda db, name: events.erase(db, aggregates=[("Stream", name)], reason="asked for"),
    ),
    steady("events.find_last_seal", lambda db, w: events.find_last_seal(db)),
    # Before others are made.
    steady("events.verify", lambda db, w: events.verify(db)),
    fresh("events.seal", make_aggregate, lambda db, _: events.seal(db, limit=1)),
    steady("events.list_checkpoints", lambda db, w: events.list_checkpoints(db, w.subscription)),
    steady("events.list_lag", lambda db, w: events.list_lag(db)),
    steady("events.reset", lambda db, w: events.reset(db, w.replayed, 0)),
    fresh(
        "events.delete_subscription",
        lambda tx, w: make_subscription(tx, _name(tx, w)),
        events.delete_subscription,
    ),
    steady("events.list_parked", lambda db, w: events.list_parked(db, w.subscription, limit=PAGE)),
    fresh(
        "events.retry_parked",
        _parked,
        lambda db, parked: events.retry_parked(db, parked[0], parked[1], lambda tx, event: None),
    ),
    fresh("events.discard_parked", _parked, lambda db, parked: events.discard_parked(db, *parked)),
    steady("events.list_rejected", lambda db, w: events.list_rejected(db, limit=PAGE)),
    fresh(
        "events.discard_rejected",
        _rejected,
        events.discard_rejected,
    ),
)
