"""The queue's writer when servers and networks fail: nothing is lost or doubled, nobody waits for ever."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from rootstream_store import Store, events, streams, users
from rootstream_store.capi import _writer_session

from ...faults.proxy import Proxy
from ...waiting import until
from .helpers import Queue

Native = tuple[Any, Any]

KILL = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
    "WHERE application_name LIKE '%% queue' AND datname = current_database()"
)


@pytest.fixture
def admin(database_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def proxy(database_url: str) -> Iterator[Proxy]:
    with Proxy(database_url) as opened:
        yield opened


@pytest.fixture
def far_store(proxy: Proxy) -> Iterator[Store]:
    """A store behind the proxy, without a Redis."""
    with Store.open(proxy.database_url, connect_timeout=2, retry_deadline=0) as opened:
        yield opened


class Producers:
    """Threads that put events into a queue, each with numbers of its own."""

    def __init__(self, queue: Queue, count: int, each: int, *, pause: float = 0.0) -> None:
        self.queue, self.count, self.each, self.pause = queue, count, each, pause
        self.threads = [threading.Thread(target=self._run, args=(number,)) for number in range(count)]
        for thread in self.threads:
            thread.start()

    def _run(self, producer: int) -> None:
        for number in range(self.each):
            assert self.queue.put(str(number % 5), {"producer": producer, "number": number}) == 0
            if self.pause:
                time.sleep(self.pause)

    @property
    def running(self) -> bool:
        return any(thread.is_alive() for thread in self.threads)

    def check(self, store: Store) -> None:
        """All are stored once, in the order of their producer, with versions that have no gap."""
        for thread in self.threads:
            thread.join()
        assert self.queue.flush(60)
        found = list(everything(store))
        for producer in range(self.count):
            numbers = [
                event.event_data["number"] for event in found if event.event_data["producer"] == producer
            ]
            assert numbers == list(range(self.each))
        assert len(found) == self.count * self.each
        for aggregate in range(5):
            versions = [event.version for event in found if event.aggregate_id == str(aggregate)]
            assert versions == list(range(1, len(versions) + 1))
        counts = self.queue.counts()
        assert counts["events_stored"] == len(found)
        assert counts["events_waiting"] == counts["events_rejected"] == 0


def wait_for_progress(queue: Queue, is_over: Callable[[], bool]) -> None:
    """Until a batch more is stored, or all is over."""
    batches = queue.counts()["batches"]
    until(lambda: queue.counts()["batches"] > batches or is_over())


def everything(store: Store) -> Iterator[Any]:
    after = 0
    while page := events.read_all(store, after_position=after, limit=1000):
        yield from page
        after = page[-1].position


def test_killed_backends(native: Native, store: Store, admin: psycopg.Connection) -> None:
    with Queue(native, store, event_bytes=1 << 16) as queue:
        producers = Producers(queue, 4, 2000, pause=0.0002)
        killed = 0
        while producers.running:
            row = admin.execute(KILL).fetchone()
            killed += row[0] if row else 0
            # On a busy machine it would else be killed again before it has done anything.
            wait_for_progress(queue, lambda: not producers.running)
            time.sleep(random.uniform(0.002, 0.02))
        producers.check(store)
        assert killed > 5
        assert queue.counts()["reconnects"] > 0
        assert not queue.counts()["is_failing"]


def test_lost_answers_to_commit(
    native: Native, store: Store, far_store: Store, proxy: Proxy, admin: psycopg.Connection
) -> None:
    """Answers are held at a random moment, the server goes on and commits, then the connection is reset."""
    with Queue(native, far_store, event_bytes=1 << 16) as queue:
        producers = Producers(queue, 4, 1000, pause=0.0005)
        cuts = 0
        while producers.running:
            wait_for_progress(queue, lambda: not producers.running)
            time.sleep(random.uniform(0.0, 0.01))
            proxy.hold_answers()
            time.sleep(random.uniform(0.0, 0.02))
            proxy.sever()
            cuts += 1
        producers.check(store)
        assert cuts > 5
        assert queue.counts()["reconnects"] > 3


LATE_COMMIT = """
    CREATE FUNCTION wait_at_commit() RETURNS trigger
    LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock_shared(4242); RETURN NULL; END $$;
    CREATE CONSTRAINT TRIGGER wait_at_commit AFTER UPDATE ON queue_writers
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait_at_commit();
"""


@pytest.mark.parametrize("what", ["events", "stats"])
def test_the_answer_to_commit_is_lost_and_the_batch_is_not_repeated(
    native: Native, store: Store, far_store: Store, proxy: Proxy, admin: psycopg.Connection, what: str
) -> None:
    """The server stops in the midst of the COMMIT, and goes on when its answer can no longer arrive."""
    ann = users.create(store, username="ann", email="ann@example.org", password="correct horse")
    stream = streams.create(store, ann.id, name="stream")
    streams.start(store, stream.id)
    admin.execute(LATE_COMMIT)
    admin.execute("SELECT pg_advisory_lock(4242)")
    with Queue(native, far_store) as queue:
        if what == "events":
            for number in range(3):
                assert queue.put("7", {"n": number}) == 0
        else:
            assert queue.report(stream.id, viewers=5, count=7) == 0
        until(lambda: waits_for_a_lock(admin))
        proxy.hold_answers()
        admin.execute("SELECT pg_advisory_unlock(4242)")
        if what == "events":
            until(lambda: events.get_version(store, "stream", "7") == 3)
        else:
            until(lambda: streams.get(store, stream.id).viewer_count == 5)
        assert not queue.flush(0.0)
        proxy.sever()
        assert queue.flush()
        counts = queue.counts()
        assert counts["reconnects"] == 1
        if what == "events":
            found = [event.event_data["n"] for event in events.read(store, "stream", "7")]
            assert found == [0, 1, 2]
            assert (counts["events_stored"], counts["events_waiting"]) == (3, 0)
        else:
            assert streams.stop(store, stream.id).total_bytes_sent == 7
            assert (counts["stats_stored"], counts["stats_waiting"]) == (1, 0)


def waits_for_a_lock(admin: psycopg.Connection) -> bool:
    row = admin.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone()
    return row is not None and row[0] > 0


FAULT = """
    CREATE TABLE fault (sqlstate text, event_type text);
    CREATE FUNCTION fail() RETURNS trigger
    LANGUAGE plpgsql AS $$
    DECLARE found text := (SELECT sqlstate FROM fault WHERE event_type = NEW.event_type LIMIT 1);
    BEGIN
        IF found IS NOT NULL THEN RAISE EXCEPTION 'a fault' USING ERRCODE = found; END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER fail BEFORE INSERT ON event_log FOR EACH ROW EXECUTE FUNCTION fail();
"""


@pytest.mark.parametrize("sqlstate", ["XX000", "26000"])
def test_a_fault_inside_the_server_is_not_laid_on_the_events(
    native: Native, store: Store, admin: psycopg.Connection, sqlstate: str
) -> None:
    admin.execute(FAULT)
    admin.execute("INSERT INTO fault VALUES (%s, 'Tick')", [sqlstate])
    with Queue(native, store) as queue:
        for number in range(3):
            assert queue.put("7", {"n": number}) == 0
        until(lambda: queue.counts()["is_failing"])
        assert not queue.flush(0.2)
        admin.execute("DELETE FROM fault")
        assert queue.flush()
        counts = queue.counts()
        assert (counts["events_stored"], counts["events_rejected"], counts["is_failing"]) == (3, 0, 0)


def test_an_event_that_makes_the_server_fail_does_not_hold_up_the_others_for_ever(
    native: Native, store: Store, admin: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_writer_session, "_PATIENCE", 0.2)
    admin.execute(FAULT)
    admin.execute("INSERT INTO fault VALUES ('XX000', 'Bad')")
    with Queue(native, store) as queue:
        for number in range(20):
            assert queue.put("7", {"n": number}, event_type="Bad" if number == 13 else "Tick") == 0
        assert queue.flush()
        counts = queue.counts()
        assert (counts["events_stored"], counts["events_rejected"]) == (19, 1)
        (rejected,) = events.list_rejected(store)
        assert (rejected.event_type, rejected.sqlstate) == ("Bad", "XX000")


def test_a_transaction_left_behind_is_ended_and_its_locks_with_it(
    native: Native, store: Store, far_store: Store, proxy: Proxy, admin: psycopg.Connection
) -> None:
    """The network goes while the server works on a batch: it keeps the locks, as it has not noticed."""
    with Queue(native, far_store) as queue:
        assert queue.put("7", {"n": 1}) == 0
        assert queue.flush()
        with store.transaction() as tx:
            events.append(tx, "stream", "7", "Tick", {"n": 2})
            assert queue.put("7", {"n": 3}) == 0
            until(lambda: waits_for_a_lock(admin))
            proxy.sever()
            until(lambda: queue.counts()["reconnects"] >= 1)
        assert queue.flush(10)
        assert [event.event_data["n"] for event in events.read(store, "stream", "7")] == [1, 2, 3]


def test_stats_are_added_once_whatever_is_lost(
    native: Native, store: Store, far_store: Store, proxy: Proxy
) -> None:
    ann = users.create(store, username="ann", email="ann@example.org", password="correct horse")
    stream = streams.create(store, ann.id, name="stream")
    streams.start(store, stream.id)
    with Queue(native, far_store) as queue:
        done = threading.Event()

        def report() -> None:
            for _ in range(300):
                assert queue.report(stream.id, viewers=3, count=7) == 0
                queue.flush(0.02)
            done.set()

        thread = threading.Thread(target=report)
        thread.start()
        while not done.is_set():
            wait_for_progress(queue, done.is_set)
            time.sleep(random.uniform(0.0, 0.01))
            proxy.hold_answers()
            time.sleep(random.uniform(0.0, 0.01))
            proxy.sever()
        thread.join()
        assert queue.flush(60)
        assert queue.counts()["reconnects"] > 5
        assert streams.stop(store, stream.id).total_bytes_sent == 2100
        assert queue.counts()["stats_stored"] == 300


def test_a_server_that_is_down_for_a_while(
    native: Native, store: Store, far_store: Store, proxy: Proxy
) -> None:
    with Queue(native, far_store) as queue:
        proxy.stop()
        assert queue.put("7", {"n": 1}) == 0
        until(lambda: queue.counts()["is_failing"])
        start = time.monotonic()
        assert not queue.flush(0.1)
        assert time.monotonic() - start < 2
        for _ in range(3000):  # more than the ring of stats takes, were it not emptied meanwhile
            assert queue.report(404) == 0
        proxy.start()
        assert queue.flush()
        assert [event.event_data["n"] for event in events.read(store, "stream", "7")] == [1]
        assert not queue.counts()["is_failing"]


def test_a_frozen_server_does_not_hold_up_the_end(native: Native, far_store: Store, proxy: Proxy) -> None:
    with Queue(native, far_store) as queue:
        assert queue.put("7", {"n": 1}) == 0
        assert queue.flush()
        proxy.deaf()
        assert queue.put("7", {"n": 2}) == 0
        start = time.monotonic()
        assert not queue.flush(0.2)
        assert not queue.stop(0.2)
        assert queue.writer is not None
        queue.writer.abort()
        assert queue.lib.rssq_queue_wait_gone(queue.pointer, 5_000_000) == 0
        assert time.monotonic() - start < 5
        assert queue.put("7", {"n": 3}) == 3  # closed


def test_a_deadlock_is_tried_again(native: Native, store: Store, admin: psycopg.Connection) -> None:
    """Somebody takes the same head rows in another order."""
    with Queue(native, store) as queue:
        for aggregate in "12":
            assert queue.put(aggregate, {"n": 0}) == 0
        assert queue.flush()
        with psycopg.connect(admin.info.dsn) as other:
            other.execute("SET deadlock_timeout = '10s'")
            lock = "SELECT 1 FROM aggregates WHERE aggregate_id = %s FOR UPDATE"
            other.execute(lock, ["2"])
            assert queue.put("1", {"n": 1}) == 0
            assert queue.put("2", {"n": 1}) == 0
            until(lambda: waits_for_a_lock(admin))
            other.execute(lock, ["1"])  # the server ends the batch, which has waited for longer
            other.commit()
        assert queue.flush()
        for aggregate in "12":
            assert [event.event_data["n"] for event in events.read(store, "stream", aggregate)] == [0, 1]
