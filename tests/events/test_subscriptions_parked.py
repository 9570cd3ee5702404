"""Events that a handler cannot take: tried again, counted, parked, and what becomes of them then."""

from __future__ import annotations

import logging
from typing import Any

import psycopg
import pytest

from rootstream_store import events
from rootstream_store.db import Db
from rootstream_store.errors import NotFound
from rootstream_store.events import NewEvent, Subscription
from rootstream_store.records import Event
from rootstream_store.store import Store

from ..statements import DIVIDE
from ..waiting import until
from .readers import append_some, make_seen, note, seen

Connection = psycopg.Connection[Any]


@pytest.fixture(autouse=True)
def _table(connection: Connection) -> None:
    make_seen(connection)


class Picky:
    """A handler that refuses some positions, after its write, and counts its calls."""

    def __init__(self, *refused: int) -> None:
        self.refused = set(refused)
        self.calls: list[int] = []

    def __call__(self, tx: Db, event: Event) -> None:
        self.calls.append(event.position)
        note(tx, event)
        if event.position in self.refused:
            raise ValueError(f"cannot take {event.position}")


def test_a_poison_event_is_parked_after_its_attempts_and_the_others_are_unharmed(
    store: Store, connection: Connection
) -> None:
    positions = append_some(store, 9)
    handler = Picky(positions[4])
    failures: list[tuple[int, str, int, bool]] = []
    subscription = Subscription(
        store,
        "r",
        handler,
        batch_size=4,
        max_attempts=3,
        retry_pause=0.01,
        on_error=lambda event, error, attempts, parked: failures.append(
            (event.position, str(error), attempts, parked)
        ),
    )
    assert subscription.catch_up() == 9
    assert seen(connection) == positions[:4] + positions[5:]
    # Once in its batch, where it is not known whose fault it is, and three times alone.
    assert handler.calls.count(positions[4]) == 4
    assert [failure[2:] for failure in failures] == [(1, False), (2, False), (3, True)]
    (parked,) = events.list_parked(store, "r")
    assert (parked.position, parked.attempts, parked.partition) == (positions[4], 3, 0)
    assert (parked.error_class, parked.error_text) == ("ValueError", f"cannot take {positions[4]}")
    assert (parked.aggregate_type, parked.aggregate_id, parked.event_type) == ("T", "a", "E")
    (found,) = events.list_checkpoints(store, "r")
    assert (found.position, found.attempts, found.failed_position) == (positions[-1], 0, 0)
    assert found.last_error is None


def test_attempts_survive_a_restart(store: Store, connection: Connection) -> None:
    (position,) = append_some(store, 1)
    for attempt in range(1, 3):
        handler = Picky(position)
        with Subscription(store, "r", handler, max_attempts=3, retry_pause=3600):
            until(lambda: len(handler.calls) == 1)  # noqa: B023  # called before the next round
            until(lambda: events.list_checkpoints(store, "r")[0].attempts == attempt)  # noqa: B023
        (found,) = events.list_checkpoints(store, "r")
        assert (found.failed_position, found.last_error) == (position, f"ValueError: cannot take {position}")
        assert events.list_parked(store, "r") == []
    Subscription(store, "r", Picky(position), max_attempts=3).catch_up()
    (parked,) = events.list_parked(store, "r")
    assert parked.attempts == 3


def test_pauses_between_attempts_grow(store: Store) -> None:
    (position,) = append_some(store, 1)
    times: list[float] = []

    def handler(tx: Db, event: Event) -> None:
        times.append(events.get_horizon(store).last_position)
        raise ValueError

    subscription = Subscription(store, "r", handler, max_attempts=4, retry_pause=0.04)
    assert subscription.catch_up() == 1
    assert len(times) == 4
    assert events.list_parked(store, "r")[0].position == position


def test_a_failed_statement_that_the_handler_hides_is_the_fault_of_its_event(
    store: Store, connection: Connection
) -> None:
    positions = append_some(store, 3)

    def handler(tx: Db, event: Event) -> None:
        note(tx, event)
        if event.position == positions[1]:
            try:
                tx.one(DIVIDE, by=0)
            except Exception:  # noqa: BLE001  # what a bad handler does
                return

    Subscription(store, "r", handler, max_attempts=1).catch_up()
    assert seen(connection) == [positions[0], positions[2]]
    assert [parked.position for parked in events.list_parked(store, "r")] == [positions[1]]


def test_a_deferred_constraint_that_the_commit_finds_is_the_fault_of_its_event(
    store: Store, connection: Connection
) -> None:
    connection.execute(
        "ALTER TABLE seen ADD CONSTRAINT once UNIQUE (reader, position) DEFERRABLE INITIALLY DEFERRED"
    )
    positions = append_some(store, 3)

    def handler(tx: Db, event: Event) -> None:
        note(tx, event)
        if event.position == positions[1]:
            note(tx, event)

    Subscription(store, "r", handler, max_attempts=2, retry_pause=0.01).catch_up()
    assert seen(connection) == [positions[0], positions[2]]
    assert [parked.error_class for parked in events.list_parked(store, "r")] == ["AlreadyExists"]


def test_batches_find_the_event_at_fault_too(store: Store, connection: Connection) -> None:
    positions = append_some(store, 6)
    picky = Picky(positions[2])

    def handler(tx: Db, batch: list[Event]) -> None:
        for event in batch:
            picky(tx, event)

    subscription = Subscription(store, "r", handler, batch=True, max_attempts=1)
    assert subscription.catch_up() == 6
    assert seen(connection) == positions[:2] + positions[3:]
    picky.refused.clear()
    assert subscription.retry_parked(positions[2]).position == positions[2]
    assert sorted(seen(connection)) == positions


def test_a_parked_event_is_retried_by_hand(store: Store, connection: Connection) -> None:
    positions = append_some(store, 3)
    handler = Picky(positions[0], positions[1])
    Subscription(store, "r", handler, max_attempts=1).catch_up()
    assert [parked.position for parked in events.list_parked(store, "r")] == positions[:2]
    assert [p.position for p in events.list_parked(store, "r", after_position=positions[0])] == [positions[1]]

    with pytest.raises(ValueError, match="cannot take"):
        events.retry_parked(store, "r", positions[0], handler)
    assert len(events.list_parked(store, "r")) == 2, "it stays"
    assert seen(connection) == [positions[2]], "and what the handler wrote is gone"

    handler.refused.clear()
    assert events.retry_parked(store, "r", positions[0], handler).position == positions[0]
    assert seen(connection) == [positions[2], positions[0]]
    with pytest.raises(NotFound):
        events.retry_parked(store, "r", positions[0], handler)

    assert events.discard_parked(store, "r", positions[1]).attempts == 1
    with pytest.raises(NotFound):
        events.discard_parked(store, "r", positions[1])
    assert events.list_parked(store, "r") == []


def test_replay_takes_events_out_of_those_parked(store: Store) -> None:
    positions = append_some(store, 3)
    handler = Picky(positions[0], positions[2])
    subscription = Subscription(store, "r", handler, max_attempts=1)
    subscription.catch_up()
    events.reset(store, "r", positions[1])
    assert [parked.position for parked in events.list_parked(store, "r")] == [positions[0]]
    handler.refused.clear()
    subscription.catch_up()
    assert [parked.position for parked in events.list_parked(store, "r")] == [positions[0]]


def test_neither_the_payload_nor_a_password_is_kept_or_logged(
    store: Store, connection: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    data = {"card": "4929-1234", "deep": [{"pin": 987654}], "quote": "O'Hara\n2", "flag": True, "n": 1}
    events.append_many(store, "T", "a", [NewEvent("E", data, metadata={"ip": "192.0.2.99"})])

    def handler(tx: Db, event: Event) -> None:
        raise ValueError(f"{event.event_data} {event.metadata} postgresql://u:hunter2@h/d\x1b[2J")

    with caplog.at_level(logging.DEBUG, "rootstream_store"):
        Subscription(store, "r", handler, max_attempts=2, retry_pause=0.01).catch_up()
    (parked,) = events.list_parked(store, "r")
    told = connection.execute("SELECT parked_events::text FROM parked_events").fetchall()
    everything = f"{told} {caplog.text}"
    for secret in ("4929", "987654", "Hara", "192.0.2.99", "hunter2", "\x1b"):
        assert secret not in everything, secret
    assert "'card': '***'" in parked.error_text, "what is no payload is told"
    assert len(parked.error_text) <= 500


def test_an_error_whose_text_cannot_be_had(store: Store) -> None:
    append_some(store, 1)

    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    def handler(tx: Db, event: Event) -> None:
        raise Mute

    Subscription(store, "r", handler, max_attempts=1).catch_up()
    (parked,) = events.list_parked(store, "r")
    assert (parked.error_class.rpartition(".")[2], parked.error_text) == ("Mute", "(no text)")


def test_an_on_error_that_fails_stops_nothing(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    positions = append_some(store, 2)

    def on_error(*_: object) -> None:
        raise RuntimeError("pager is down")

    subscription = Subscription(store, "r", Picky(positions[0]), max_attempts=1, on_error=on_error)
    assert subscription.catch_up() == 2
    assert "pager is down" in caplog.text
