"""Projections: in the transaction of the append or after it, and built anew beside the one that serves."""

from __future__ import annotations

import subprocess
import sys
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from rootstream_store import events
from rootstream_store.db import Db
from rootstream_store.errors import Conflict, InvalidInput
from rootstream_store.events import Inline, NewEvent, Projection
from rootstream_store.records import Event
from rootstream_store.store import Store

from ..statements import statement
from ..undo import rolled_back
from ..waiting import until
from .projected import ADD, TABLES, count_up, totals

Connection = psycopg.Connection[Any]


@pytest.fixture
def projection() -> Projection:
    return Projection("totals", count_up, TABLES, event_types=["Added"])


def add(db: Db, aggregate: str, amount: int) -> None:
    events.append(db, "T", aggregate, "Added", {"amount": amount})


def fold(connection: Connection) -> dict[str, tuple[int, int]]:
    """What the whole log comes to."""
    found = connection.execute(
        "SELECT aggregate_id, sum((event_data->>'amount')::bigint)::bigint, max(version) FROM event_log "
        "WHERE event_type = 'Added' GROUP BY 1"
    )
    return {aggregate: (total, version) for aggregate, total, version in found.fetchall()}


# --- kept up to date after the append


def test_a_subscription_keeps_it_in_a_schema_of_its_own(
    store: Store, connection: Connection, projection: Projection
) -> None:
    for amount in (1, 2, 3):
        add(store, "a", amount)
    events.append(store, "T", "a", "Other", {})
    subscription = projection.subscription(store, batch_size=2)
    assert subscription.catch_up() == 3
    assert totals(connection) == {"a": (6, 3)}
    assert projection.schema == "projection_totals"
    with subscription:
        add(store, "b", 5)
        until(lambda: totals(connection).get("b") == (5, 1))
    row = connection.execute("SELECT to_regclass('totals'), current_setting('search_path')").fetchone()
    assert row is not None
    assert row[0] is None, "in no other schema"


PATH = statement("SELECT current_setting('search_path') AS path", str)


def test_the_search_path_is_left_as_it_was(store: Store, projection: Projection) -> None:
    with store.transaction() as tx:
        before = tx.one(PATH)
        assert projection.create(tx)
        assert tx.one(PATH) == before
        Inline(projection).append(tx, "T", "a", "Added", {"amount": 2})
        assert tx.one(PATH) == before
    assert not projection.create(store), "it is there"
    assert store.one(PATH) == before


@pytest.mark.parametrize("name", ["", "A", "1a", "a__b", "a" * 41, "a-b", "a;b", "_a", "a.b"])
def test_names_that_no_schema_should_have(store: Store, connection: Connection, name: str) -> None:
    with pytest.raises(InvalidInput):
        Projection(name, count_up, TABLES)
    with pytest.raises(psycopg.errors.InvalidName):
        connection.execute("SELECT projection_drop_schema(%s, '')", [name])
    with pytest.raises(psycopg.errors.InvalidName):
        connection.execute("SELECT projection_drop_schema('a', '_other')")


# --- in the transaction of the append


def test_an_inline_projection_is_never_behind(
    store: Store, connection: Connection, projection: Projection
) -> None:
    inline = Inline(projection)
    assert projection.create(store)
    inline.append(store, "T", "a", "Added", {"amount": 1})
    inline.append_many(store, "T", "a", [NewEvent("Added", {"amount": 2}), NewEvent("Other", {})], expected=1)
    assert totals(connection) == {"a": (3, 2)}
    with rolled_back(store) as tx:
        inline.append(tx, "T", "a", "Added", {"amount": 100})
    assert totals(connection) == {"a": (3, 2)}
    assert events.get_version(store, "T", "a") == 3


def test_what_the_handler_refuses_is_not_appended(
    store: Store, connection: Connection, projection: Projection
) -> None:
    inline = Inline(projection)
    projection.create(store)
    with store.transaction() as tx:
        with pytest.raises(TypeError):
            inline.append(tx, "T", "a", "Added", {"amount": None})
        inline.append(tx, "T", "a", "Added", {"amount": 4})
        add(tx, "b", 1)
    assert events.get_version(store, "T", "a") == 1
    assert totals(connection) == {"a": (4, 1)}


def test_a_repeat_is_not_projected_again(
    store: Store, connection: Connection, projection: Projection
) -> None:
    """An append that answers with the events of the first time adds nothing to the tables."""
    inline = Inline(projection)
    projection.create(store)
    first = inline.append(store, "T", "a", "Added", {"amount": 1})
    with store.transaction() as tx:
        inline._project(tx, events.get_horizon(tx).last_position, "T", "a", [first])
    assert totals(connection) == {"a": (1, 1)}


def test_a_repeat_that_comes_in_between_is_not_projected_again(
    store: Store, connection: Connection, projection: Projection
) -> None:
    """Threads that make the same appends at once: each event is appended and projected once, and all are told
    where it is."""
    projection.create(store)
    inline = Inline(projection)
    ids = [uuid.uuid4() for _ in range(60)]

    def write(_: int) -> list[int]:
        one = [
            inline.append(store, "T", "a", "Added", {"amount": 1}, event_id=event_id).position
            for event_id in ids[:30]
        ]
        many = [
            inline.append_many(store, "T", "a", [NewEvent("Added", {"amount": 1}, event_id=event_id)])
            for event_id in ids[30:]
        ]
        return one + [part[0].position for part in many]

    with ThreadPoolExecutor(4) as pool:
        places = list(pool.map(write, range(4)))
    assert all(place == places[0] for place in places)
    assert totals(connection) == fold(connection) == {"a": (60, 60)}


def test_two_inline_projections_and_one_that_takes_batches(store: Store, connection: Connection) -> None:
    sizes: list[int] = []
    one = Projection("totals", count_up, TABLES)
    two = Projection("batches", lambda tx, batch: sizes.append(len(batch)), [], batch=True)
    for projection in (one, two):
        projection.create(store)
    new = [NewEvent("Added", {"amount": 1}) for _ in range(1500)]
    Inline(one, two).append_many(store, "T", "a", new)
    assert totals(connection) == {"a": (1500, 1500)}
    assert sizes == [1000, 500]


def test_a_mixed_up_handler_does_not_leave_the_path_behind(store: Store, connection: Connection) -> None:
    """The statement after a failed inline append, in the same transaction, means the tables it always did."""
    projection = Projection("totals", count_up, TABLES)
    projection.create(store)
    with store.transaction() as tx:
        with pytest.raises(TypeError):
            Inline(projection).append(tx, "T", "a", "Added", {"amount": None})
        with pytest.raises(Exception, match="totals"), tx.transaction() as inner:
            inner.run(ADD, aggregate="a", amount=1, version=1)


# --- rebuilding


def test_a_rebuild_replaces_what_was_wrong(
    store: Store, connection: Connection, projection: Projection
) -> None:
    for amount in range(10):
        add(store, f"a{amount % 3}", amount)
    subscription = projection.subscription(store)
    subscription.catch_up()
    connection.execute("UPDATE projection_totals.totals SET total = total + 1000")
    told: list[tuple[int, int]] = []
    assert events.rebuild(store, projection, progress=lambda *at: told.append(at), batch_size=4) == 10
    assert totals(connection) == fold(connection)
    assert told[0][0] <= told[0][1] == 10
    schemas = connection.execute("SELECT nspname::text FROM pg_namespace WHERE nspname ~ '^projection'")
    assert schemas.fetchall() == [("projection_totals",)]
    (found,) = events.list_checkpoints(store, "totals")
    assert found.position == 10
    assert events.list_checkpoints(store, "totals:rebuild") == []
    add(store, "a0", 7)
    assert subscription.catch_up() == 1, "it goes on from there"
    assert totals(connection) == fold(connection)


def test_the_old_tables_may_be_kept(store: Store, connection: Connection, projection: Projection) -> None:
    add(store, "a", 1)
    projection.subscription(store).catch_up()
    connection.execute("UPDATE projection_totals.totals SET total = 99")
    for _ in range(2):
        events.rebuild(store, projection, keep_old=True)
        assert totals(connection) == {"a": (1, 1)}
    assert totals(connection, "projection_totals__old") == {"a": (1, 1)}


def test_one_that_nobody_has_kept_so_far(
    store: Store, connection: Connection, projection: Projection
) -> None:
    add(store, "a", 1)
    events.rebuild(store, projection)
    assert totals(connection) == {"a": (1, 1)}
    assert projection.subscription(store).catch_up() == 0


def test_a_rebuild_under_concurrent_appends_misses_and_doubles_nothing(
    store: Store, connection: Connection, projection: Projection
) -> None:
    for number in range(300):
        add(store, f"a{number % 5}", number)
    stop = threading.Event()

    def write(number: int) -> None:
        with Store.open(store.settings.database_url, pool_size=1) as own:
            while not stop.wait(0.005):  # a pace that the handler can keep, with all of this in one process
                add(own, f"a{number}", 1)

    def look() -> None:
        """Readers find the tables whenever they look, and totals never fall."""
        last = 0
        with psycopg.connect(store.settings.database_url, autocommit=True) as own:
            while not stop.wait(0.001):
                row = own.execute("SELECT coalesce(sum(version), 0) FROM projection_totals.totals").fetchone()
                assert row is not None
                if row[0] < last:
                    problems.append(f"{row[0]} after {last}")
                last = row[0]

    problems: list[str] = []
    projection.create(store)
    threads = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    threads.append(threading.Thread(target=look))
    with projection.subscription(store, partitions=2, poll_interval=0.005, batch_size=20):
        until(lambda: sum(version for _, version in totals(connection).values()) >= 300)
        for thread in threads:
            thread.start()
        try:
            for _ in range(3):
                events.rebuild(store, projection, batch_size=100)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        until(lambda: totals(connection) == fold(connection), "the log and the tables agree")
    assert problems == []
    assert sum(version for _, version in fold(connection).values()) > 300


def test_an_inline_projection_is_rebuilt_under_concurrent_appends(
    store: Store, connection: Connection, projection: Projection
) -> None:
    projection.create(store)
    inline = Inline(projection)
    for number in range(50):
        inline.append(store, "T", f"a{number % 5}", "Added", {"amount": number})
    connection.execute("DELETE FROM projection_totals.totals")
    stop = threading.Event()

    def write(number: int) -> None:
        with Store.open(store.settings.database_url, pool_size=1) as own:
            while not stop.wait(0.005):
                inline.append(own, "T", f"a{number}", "Added", {"amount": 1})

    threads = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            events.rebuild(store, projection, inline=True, batch_size=100)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert totals(connection) == fold(connection)
    assert events.list_checkpoints(store, "totals") == []


def test_a_killed_rebuild_is_run_again(store: Store, connection: Connection, projection: Projection) -> None:
    for number in range(40):
        add(store, f"a{number % 5}", number)
    projection.subscription(store).catch_up()
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.events.projected", store.settings.database_url],
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "half\n"
        child.kill()
    assert connection.execute("SELECT count(*) FROM projection_totals__new.totals").fetchone() is not None
    assert totals(connection) == fold(connection), "the one that serves is untouched"
    assert events.rebuild(store, projection) == 40
    assert totals(connection) == fold(connection)


def test_two_rebuilds_at_once_are_refused(
    store: Store, connection: Connection, projection: Projection
) -> None:
    for _ in range(3):
        add(store, "a", 1)
    begun, go_on = threading.Event(), threading.Event()
    results: list[object] = []

    def slow(tx: Db, event: Event) -> None:
        begun.set()
        assert go_on.wait(30)
        count_up(tx, event)

    def work(handler: Any) -> None:
        try:
            results.append(events.rebuild(store, Projection("totals", handler, TABLES), batch_size=1))
        except Conflict as error:
            results.append(error)

    first = threading.Thread(target=work, args=(slow,))
    first.start()
    assert begun.wait(10)
    second = threading.Thread(target=work, args=(count_up,))
    second.start()
    # It has seen the lease, which the first renews with its next batch.
    until(lambda: events.list_checkpoints(store, "totals:rebuild")[0].is_leased)
    connection.execute("SELECT 1")
    second.join(0.5)
    assert second.is_alive(), "it waits to see whether the first is alive"
    go_on.set()
    first.join(30)
    second.join(30)
    assert 3 in results
    assert totals(connection) == {"a": (3, 3)}


def test_an_event_that_fails_under_the_locks_of_the_switch_is_parked_before_the_next_one(
    store: Store, connection: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    add(store, "a", 1)
    late = iter([None])

    def append_late(*_: int) -> None:
        """After the last batch, before the switch."""
        for amount in late:
            events.append(store, "T", "a", "Added", {"amount": amount})

    projection = Projection("totals", count_up, TABLES)
    assert events.rebuild(store, projection, progress=append_late, max_attempts=1) == 2
    assert "was not switched over: TypeError" in caplog.text
    assert totals(connection) == {"a": (1, 1)}
    assert [parked.position for parked in events.list_parked(store, "totals")] == [2]


def test_an_event_that_fails_in_a_rebuild_is_parked_for_the_projection(
    store: Store, connection: Connection, projection: Projection
) -> None:
    add(store, "a", 1)
    events.append(store, "T", "a", "Added", {"amount": None})
    add(store, "a", 2)
    events.rebuild(store, projection, max_attempts=2, retry_pause=0.01)
    assert totals(connection) == {"a": (3, 3)}
    (parked,) = events.list_parked(store, "totals")
    assert (parked.position, parked.error_class) == (2, "TypeError")
    assert events.list_parked(store, "totals:rebuild") == []
    events.rebuild(store, projection, max_attempts=2, retry_pause=0.01)
    assert len(events.list_parked(store, "totals")) == 1
