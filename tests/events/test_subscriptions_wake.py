"""What wakes a subscription: an append through Redis, else poll_interval; and Redis that comes and goes."""

from __future__ import annotations

import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from rootstream_store import events
from rootstream_store.db import Db
from rootstream_store.events import Subscription
from rootstream_store.events._wake import watching
from rootstream_store.records import Event
from rootstream_store.store import Store

from ..cache.conftest import OwnValkey
from ..waiting import until
from .readers import append_some, make_seen, note, seen

Connection = psycopg.Connection[Any]


@pytest.fixture(autouse=True)
def _table(connection: Connection) -> None:
    make_seen(connection)


@pytest.fixture
def valkey() -> Iterator[OwnValkey]:
    """A server of the test's own, which it may break."""
    directory = Path(tempfile.mkdtemp(prefix="rsw-"))
    server = OwnValkey(directory)
    try:
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(directory)


def append_and_wake(db: Db) -> int:
    (position,) = append_some(db, 1)
    db.flow(events.wake(position))
    return position


def is_listening(store: Store) -> bool:
    return bool(store.redis.pubsub_numsub("events:appended")[0][1])


def test_an_append_wakes_long_before_poll_interval(store: Store, connection: Connection) -> None:
    with Subscription(store, "r", note, poll_interval=60, lease_seconds=3600):
        until(lambda: is_listening(store))
        for number in range(1, 6):
            append_and_wake(store)
            until(lambda: len(seen(connection)) == number, "in far less than a minute", 10)  # noqa: B023


def test_an_append_in_a_transaction_wakes_at_its_commit(store: Store, connection: Connection) -> None:
    with Subscription(store, "r", note, poll_interval=60, lease_seconds=3600):
        until(lambda: is_listening(store))
        with store.transaction() as tx:
            append_and_wake(tx)
            append_and_wake(tx)
        until(lambda: len(seen(connection)) == 2, seconds=10)


def test_another_process_is_woken_too(store: Store, connection: Connection) -> None:
    """Another store, that is: nothing is shared but the servers."""
    with (
        Store.open(store.settings.database_url, store.settings.redis_url, pool_size=2) as other,
        Subscription(other, "r", note, poll_interval=60, lease_seconds=3600),
    ):
        until(lambda: is_listening(store))
        append_and_wake(store)
        until(lambda: len(seen(connection)) == 1, seconds=10)


def test_the_time_from_append_to_handler(store: Store) -> None:
    """A few milliseconds when the machine is idle; the bound only tells it from polling."""
    arrived: dict[int, float] = {}
    came = threading.Event()

    def handler(tx: Db, event: Event) -> None:
        arrived[event.position] = time.perf_counter()
        came.set()

    took = []
    with Subscription(store, "r", handler, poll_interval=60, lease_seconds=3600):
        until(lambda: is_listening(store))
        for _ in range(20):
            came.clear()
            began = time.perf_counter()
            position = append_and_wake(store)
            assert came.wait(10)
            took.append(arrived[position] - began)
    assert statistics.median(took) < 0.25


def test_without_redis_it_looks_by_itself(database_url: str, connection: Connection) -> None:
    with Store.open(database_url) as store, Subscription(store, "r", note, poll_interval=0.05):
        append_and_wake(store)
        until(lambda: len(seen(connection)) == 1)
        assert not [thread for thread in threading.enumerate() if thread.name == "rootstream-listen"]


def test_redis_killed_and_back(database_url: str, connection: Connection, valkey: OwnValkey) -> None:
    with (
        Store.open(database_url, valkey.url, redis_timeout=0.2, redis_retry_after=0.1) as store,
        Subscription(store, "r", note, poll_interval=0.5),
    ):
        until(lambda: is_listening(store))
        append_and_wake(store)
        until(lambda: len(seen(connection)) == 1)
        valkey.kill()
        append_and_wake(store)
        until(lambda: len(seen(connection)) == 2, "by polling")
        valkey.start()
        until(lambda: is_listening(store), "it listens again")
        append_and_wake(store)
        until(lambda: len(seen(connection)) == 3)


def test_redis_that_is_not_there_yet(database_url: str, connection: Connection, valkey: OwnValkey) -> None:
    valkey.kill()
    with (
        Store.open(database_url, valkey.url, redis_timeout=0.2, redis_retry_after=0.1) as store,
        Subscription(store, "r", note, poll_interval=0.1),
    ):
        append_and_wake(store)
        until(lambda: len(seen(connection)) == 1)
        valkey.start()
        until(lambda: is_listening(store))


def test_subscriptions_of_a_store_share_one_listener_and_leave_none(store: Store) -> None:
    def listeners() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == "rootstream-listen"]

    first = Subscription(store, "r", note, poll_interval=60).start()
    second = Subscription(store, "other", lambda tx, event: None, poll_interval=60).start()
    until(lambda: len(listeners()) == 1)
    until(lambda: is_listening(store))
    first.stop()
    assert len(listeners()) == 1
    second.stop()
    assert listeners() == []
    until(lambda: not is_listening(store))


def test_one_look_serves_all_who_asked_before_it(store: Store) -> None:
    looks = 0

    def count(name: str, work: Any) -> Any:
        nonlocal looks
        looks += name == "events/get_horizon"
        return work()

    append_some(store, 3)
    with watching(store) as watch, watching(store) as same:
        assert same is watch
        watch.look()
        store.observe(count)
        barrier = threading.Barrier(8)
        found: list[int] = []

        def look() -> None:
            barrier.wait(10)
            found.append(watch.look().position)

        with watch._looking:
            threads = [threading.Thread(target=look) for _ in range(8)]
            for thread in threads:
                thread.start()
            until(lambda: barrier.n_waiting == 0 and not barrier.broken)
        for thread in threads:
            thread.join(10)
        store.observe(None)
    assert found == [3] * 8
    assert 1 <= looks < 8


def test_an_idle_subscription_writes_nothing(store: Store, connection: Connection) -> None:
    append_some(store, 3, event_type="Wanted")
    with Subscription(
        store, "r", note, event_types=["Wanted"], poll_interval=0.01, lease_seconds=3600
    ) as subscription:
        until(lambda: len(seen(connection)) == 3)
        version = "SELECT xmin::text FROM subscriptions"
        before = connection.execute(version).fetchone()
        append_some(store, 5, event_type="Other")
        looks = 0

        def count(name: str, work: Any) -> Any:
            nonlocal looks
            looks += name == "events/get_horizon"
            return work()

        store.observe(count)
        until(lambda: looks > 20)
        store.observe(None)
        assert connection.execute(version).fetchone() == before
    subscription.stop()
    (found,) = events.list_checkpoints(store, "r")
    assert found.position == 8, "but how far it read is kept when it stops"
