"""Subscriptions: what is handed to a handler, once and in order, through errors and restarts."""

from __future__ import annotations

import threading
import time
from typing import Any

import psycopg
import pytest

from rootstream_store import events
from rootstream_store.db import Db
from rootstream_store.errors import Conflict, InvalidInput, NotFound, RootStreamError, Timeout, Unavailable
from rootstream_store.events import Subscription
from rootstream_store.records import Event
from rootstream_store.store import Store

from ..waiting import until
from .readers import BACKEND, append_some, make_seen, note, seen

Connection = psycopg.Connection[Any]


@pytest.fixture(autouse=True)
def _table(connection: Connection) -> None:
    make_seen(connection)


def checkpoint(store: Store, name: str = "r") -> int:
    (found,) = events.list_checkpoints(store, name)
    return found.position


def test_every_event_is_handed_over_once_and_in_order(store: Store, connection: Connection) -> None:
    first = append_some(store, 7)
    subscription = Subscription(store, "r", note, batch_size=3)
    assert subscription.catch_up() == 7
    assert seen(connection) == first
    assert subscription.catch_up() == 0
    second = append_some(store, 5, "b")
    assert Subscription(store, "r", note).catch_up() == 5, "another object goes on where it was"
    assert seen(connection) == first + second
    assert checkpoint(store) == second[-1]


def test_a_handler_may_take_a_whole_batch(store: Store) -> None:
    append_some(store, 7)
    sizes: list[int] = []
    handler = lambda tx, batch: sizes.append(len(batch))  # noqa: E731
    assert Subscription(store, "r", handler, batch=True, batch_size=3).catch_up() == 7
    assert sizes == [3, 3, 1]


def test_filters_pass_over_what_does_not_match(store: Store, connection: Connection) -> None:
    append_some(store, 3, event_type="A")
    wanted = append_some(store, 2, event_type="B")
    last = append_some(store, 3, event_type="C")[-1]
    assert Subscription(store, "r", note, event_types=["B"]).catch_up() == 2
    assert seen(connection) == wanted
    assert checkpoint(store) == last, "also past what does not match"
    events.append(store, "Other", "x", "B", {})
    typed = Subscription(store, "typed", lambda tx, event: note(tx, event, "typed"), aggregate_type="Other")
    assert typed.catch_up() == 1


def test_a_new_subscription_starts_where_it_is_told(store: Store, connection: Connection) -> None:
    positions = append_some(store, 4)
    end = Subscription(store, "end", lambda tx, event: note(tx, event, "end"), start="end")
    assert end.catch_up() == 0
    middle = Subscription(store, "middle", lambda tx, event: note(tx, event, "middle"), start=positions[1])
    assert middle.catch_up() == 2
    later = append_some(store, 1)
    assert end.catch_up() == 1
    assert seen(connection, "end") == later
    assert Subscription(store, "middle", note, start="beginning").catch_up() == 1, "only when it is new"


def test_no_batch_is_committed_without_its_checkpoint_or_the_reverse(
    store: Store, connection: Connection
) -> None:
    positions = append_some(store, 6)
    failures = iter([True, True, False])

    def handler(tx: Db, event: Event) -> None:
        note(tx, event)
        if event.position == positions[3] and next(failures, False):
            raise ValueError("after the write")

    Subscription(store, "r", handler, retry_pause=0.01).catch_up()
    assert seen(connection) == positions
    assert events.list_parked(store, "r") == []


def test_backends_killed_in_the_handler_double_and_lose_nothing(store: Store, connection: Connection) -> None:
    positions = append_some(store, 60)
    killed: set[int] = set()

    def handler(tx: Db, event: Event) -> None:
        note(tx, event)
        if event.position % 7 == 0 and event.position not in killed:
            killed.add(event.position)
            connection.execute("SELECT pg_terminate_backend(%s, 5000)", [tx.one(BACKEND)])
            note(tx, event)

    Subscription(store, "r", handler, batch_size=5, max_attempts=1).catch_up()
    assert len(killed) == 8
    assert seen(connection) == positions
    assert events.list_parked(store, "r") == [], "a lost connection is not the fault of the event"


def test_a_handler_that_hides_a_lost_connection_in_its_own_error(
    store: Store, connection: Connection
) -> None:
    positions = append_some(store, 1)
    kills = iter([True, False])

    def handler(tx: Db, event: Event) -> None:
        try:
            if next(kills, False):
                connection.execute("SELECT pg_terminate_backend(%s, 5000)", [tx.one(BACKEND)])
            note(tx, event)
        except Exception as error:
            raise ValueError("could not be noted") from error

    Subscription(store, "r", handler, max_attempts=1).catch_up()
    assert seen(connection) == positions
    assert events.list_parked(store, "r") == []


def test_what_the_database_cannot_do_just_now_is_waited_out(store: Store, connection: Connection) -> None:
    positions = append_some(store, 2)
    troubles: list[Exception] = [
        Timeout("a lock was not free"),
        Unavailable("away"),
        Unavailable("lost in a commit", outcome_unknown=True),
        _deadlock(),
    ]

    def handler(tx: Db, event: Event) -> None:
        if troubles:
            raise troubles.pop(0)
        note(tx, event)

    Subscription(store, "r", handler, max_attempts=1, batch_size=1).catch_up()
    assert troubles == []
    assert seen(connection) == positions
    assert events.list_parked(store, "r") == []


def _deadlock() -> Conflict:
    error = Conflict("deadlock", sqlstate="40P01")
    error.retryable = True
    return error


# --- running and stopping


def test_it_runs_until_it_is_stopped(store: Store, connection: Connection) -> None:
    positions = append_some(store, 3)
    with Subscription(store, "r", note, poll_interval=0.02) as subscription:
        until(lambda: seen(connection) == positions)
        more = append_some(store, 3)
        until(lambda: seen(connection) == positions + more)
        assert subscription.is_running
    until(lambda: not subscription.is_running)
    (found,) = events.list_checkpoints(store, "r")
    assert (found.position, found.owner, found.lease_expires_at) == (more[-1], None, None)
    assert connection.execute("SELECT count(*) FROM subscription_members").fetchone() == (0,)
    append_some(store, 1)
    with subscription:
        until(lambda: len(seen(connection)) == 7)


def test_run_blocks_until_another_thread_stops_it(store: Store, connection: Connection) -> None:
    append_some(store, 1)
    subscription = Subscription(store, "r", note, poll_interval=60)
    thread = threading.Thread(target=subscription.run)
    thread.start()
    until(lambda: len(seen(connection)) == 1)
    began = time.monotonic()
    subscription.stop()
    thread.join(10)
    assert not thread.is_alive()
    assert time.monotonic() - began < 5, "although poll_interval is a minute"


def test_stop_waits_for_the_batch_under_way_and_no_longer_than_it_is_told(
    store: Store, connection: Connection
) -> None:
    append_some(store, 2)
    begun, go_on = threading.Event(), threading.Event()

    def handler(tx: Db, event: Event) -> None:
        begun.set()
        assert go_on.wait(30)
        note(tx, event)

    subscription = Subscription(store, "r", handler, batch_size=1).start()
    assert begun.wait(10)
    with pytest.raises(Timeout, match="its handler runs"):
        subscription.stop(timeout=0.05)
    go_on.set()
    subscription.stop()
    assert len(seen(connection)) == 1, "the batch under way is finished, and no other begun"


def test_a_handler_may_stop_its_own_subscription(store: Store, connection: Connection) -> None:
    append_some(store, 3)

    def handler(tx: Db, event: Event) -> None:
        note(tx, event)
        subscription.stop()

    subscription = Subscription(store, "r", handler, batch_size=1)
    subscription.run()
    assert len(seen(connection)) == 1


def test_the_store_may_be_closed_first(database_url: str) -> None:
    with Store.open(database_url) as own:
        subscription = Subscription(own, "r", note, poll_interval=0.01).start()
    until(lambda: not subscription.is_running)
    subscription.stop()


def test_what_cannot_pass_ends_it_and_is_raised_by_stop(store: Store, connection: Connection) -> None:
    subscription = Subscription(store, "r", note, poll_interval=0.01, lease_seconds=0.1).start()
    connection.execute("DROP TABLE subscription_members")
    until(lambda: not subscription.is_running)
    with pytest.raises(RootStreamError, match="subscription_members"):
        subscription.stop()
    subscription.stop()  # told once


def test_it_runs_once_at_a_time(store: Store) -> None:
    with Subscription(store, "r", note) as subscription, pytest.raises(Conflict, match="running already"):
        subscription.catch_up()


def test_catching_up_may_have_an_end(store: Store) -> None:
    append_some(store, 1)

    def handler(tx: Db, event: Event) -> None:
        raise Timeout("never free")

    with pytest.raises(Timeout, match="not caught up"):
        Subscription(store, "r", handler).catch_up(timeout=0.2)


def test_an_open_append_holds_it_back_and_a_rollback_lets_it_go_on(
    store: Store, connection: Connection
) -> None:
    looks = 0

    def count(name: str, work: Any) -> Any:
        nonlocal looks
        looks += name == "events/get_horizon"
        return work()

    with (
        Subscription(store, "r", note, poll_interval=60, lease_seconds=3600),
        psycopg.connect(store.settings.database_url) as other,
    ):
        until(lambda: store.redis.pubsub_numsub("events:appended")[0][1])
        other.execute(
            "INSERT INTO event_log (aggregate_id, aggregate_type, version, event_type, event_data) "
            "VALUES ('x', 'X', 1, 'E', '{}')"
        )
        (position,) = append_some(store, 1)
        store.observe(count)
        store.flow(events.wake(position))
        until(lambda: looks >= 4, "it looks again and again, as a rollback wakes nobody")
        assert seen(connection) == []
        other.rollback()
        until(lambda: seen(connection) == [position], "long before poll_interval", 10)
        store.observe(None)


# --- arguments


@pytest.mark.parametrize(
    ("field", "over"),
    [
        ("name", {"name": ""}),
        ("name", {"name": "n" * 256}),
        ("handler", {"handler": None}),
        ("event_types", {"event_types": "E"}),
        ("start", {"start": "middle"}),
        ("start", {"start": -1}),
        ("batch_size", {"batch_size": 0}),
        ("partitions", {"partitions": 1025}),
        ("max_attempts", {"max_attempts": 0}),
        ("poll_interval", {"poll_interval": 0}),
        ("retry_pause", {"retry_pause": float("nan")}),
        ("lease_seconds", {"lease_seconds": True}),
    ],
)
def test_a_wrong_argument_is_told_at_once(store: Store, field: str, over: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as caught:
        Subscription(**{"store": store, "name": "r", "handler": note, **over})
    assert caught.value.field == field


# --- replay


def test_reset_replays_from_any_position(store: Store, connection: Connection) -> None:
    positions = append_some(store, 5)
    subscription = Subscription(store, "r", note)
    subscription.catch_up()
    events.reset(store, "r", positions[2])
    assert subscription.catch_up() == 2
    assert seen(connection) == positions + positions[3:]
    events.reset(store, "r", 0)
    assert subscription.catch_up() == 5


def test_reset_is_refused_while_somebody_reads_unless_forced(store: Store, connection: Connection) -> None:
    append_some(store, 5)
    with Subscription(store, "r", note, lease_seconds=0.5):
        until(lambda: len(seen(connection)) == 5)
        with pytest.raises(Conflict, match="is being read by"):
            events.reset(store, "r", 0)
        events.reset(store, "r", 0, force=True)
        until(lambda: len(seen(connection)) == 10, "the reader takes up the new position")


def test_reset_and_delete_of_nothing(store: Store) -> None:
    with pytest.raises(NotFound):
        events.reset(store, "r", 0)
    with pytest.raises(NotFound):
        events.delete_subscription(store, "r")
    with pytest.raises(InvalidInput):
        events.reset(store, "r", -1)


def test_a_deleted_subscription_starts_anew(store: Store) -> None:
    append_some(store, 2)
    subscription = Subscription(store, "r", note)
    with subscription:
        until(lambda: checkpoint(store) > 0)
        with pytest.raises(Conflict):
            events.delete_subscription(store, "r")
    events.delete_subscription(store, "r")
    assert events.list_checkpoints(store, "r") == []
    assert subscription.catch_up() == 2
