"""Subscriptions while PostgreSQL goes away and comes back, and when the answer to a commit is lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from rootstream_store import events
from rootstream_store.db import Db
from rootstream_store.errors import Timeout
from rootstream_store.events import Subscription
from rootstream_store.events._checkpoint import Member, create
from rootstream_store.events._consumer import Consumer
from rootstream_store.records import Event
from rootstream_store.store import Store

from ..faults.proxy import Proxy
from ..waiting import until
from .readers import append_some, make_seen, note, seen

Connection = psycopg.Connection[Any]


@pytest.fixture(autouse=True)
def _table(connection: Connection) -> None:
    make_seen(connection)


@pytest.fixture
def proxy(database_url: str) -> Iterator[Proxy]:
    with Proxy(database_url) as opened:
        yield opened


@pytest.fixture
def shaky(proxy: Proxy) -> Iterator[Store]:
    """A store whose server may go away; it does not wait for it for long."""
    with Store.open(proxy.database_url, pool_size=4, retry_deadline=0.2, pool_timeout=0.5) as opened:
        yield opened


def test_a_server_that_goes_away_is_waited_for(
    shaky: Store, proxy: Proxy, store: Store, connection: Connection
) -> None:
    positions = append_some(store, 3)
    with Subscription(shaky, "r", note, poll_interval=0.02, max_attempts=1) as subscription:
        until(lambda: seen(connection) == positions)
        for _ in range(3):
            proxy.stop()
            positions.extend(append_some(store, 3))
            assert subscription.is_running
            proxy.start()
            until(lambda: seen(connection) == positions, "it goes on")
    assert events.list_parked(store, "r") == []


def test_it_can_be_stopped_while_the_server_is_away(shaky: Store, proxy: Proxy, store: Store) -> None:
    subscription = Subscription(shaky, "r", note, poll_interval=0.02).start()
    until(lambda: events.list_checkpoints(store, "r")[0].owner is not None)
    proxy.stop()
    subscription.stop(timeout=20)
    assert not subscription.is_running
    proxy.start()
    (found,) = events.list_checkpoints(store, "r")
    assert found.owner is not None, "nobody could give it up: its lease expires"


def test_a_commit_whose_answer_is_lost_is_not_repeated(
    shaky: Store, proxy: Proxy, store: Store, connection: Connection
) -> None:
    positions = append_some(store, 4)
    lost = 0

    def handler(tx: Db, event: Event) -> None:
        nonlocal lost
        note(tx, event)
        if event.position == positions[1] and not lost:
            lost += 1
            # The server hears the COMMIT, its answer does not arrive.
            proxy.hold_answers()

    with Subscription(shaky, "r", handler, batch_size=2, poll_interval=0.02, max_attempts=1):
        until(lambda: lost == 1)
        until(lambda: len(seen(connection)) == 2, "the server has committed")
        proxy.sever()
        until(lambda: len(seen(connection)) == 4, "it goes on after what was committed")
    assert seen(connection) == positions
    assert lost == 1
    assert events.list_parked(store, "r") == []


def test_after_a_trouble_it_waits_for_as_long_as_before(store: Store) -> None:
    """A pause that is over must not be taken for something to do: it would look a thousand times a second."""
    append_some(store, 1)
    options = Subscription(store, "r", note, event_types=["Other"])._options
    store.flow(create("r", 1, 0))
    member = Member("r", uuid4(), timedelta(hours=1))
    consumer = Consumer(store, options, member, note, lambda tx: None, None, threading.Event())
    consumer.claim()
    troubles = iter([Timeout("a lock")])

    def observe(name: str, work: Any) -> Any:
        if name == "subscriptions/read":
            for trouble in troubles:
                raise trouble
        return work()

    store.observe(observe)
    assert not consumer.round(1)
    assert consumer.idle_for(60) < 1, "it tries again soon"
    until(lambda: consumer.round(1))
    store.observe(None)
    assert not consumer.round(1)
    assert consumer.idle_for(60) == 60
    consumer.close()
