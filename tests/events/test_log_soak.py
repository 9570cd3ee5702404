"""Eight writer processes under three subscribers, all of them killed now and then: nothing is missed, doubled
or out of order.

ROOTSTREAM_SOAK_SECONDS says for how long; twenty by default, sixty by `make soak`.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from rootstream_store import events
from rootstream_store.events import Subscription
from rootstream_store.store import Store

from ..waiting import until
from .readers import make_seen, note
from .strategies import Seen, judge

SECONDS = float(os.environ.get("ROOTSTREAM_SOAK_SECONDS", "20"))
WRITERS = 8
READERS = ("thread", "process", "group")
"""One in this process, one in a process of its own, one of four partitions in two processes."""

Connection = psycopg.Connection[Any]
Process = subprocess.Popen[bytes]


class Cast:
    """The processes, started again when they were killed."""

    def __init__(self, store: Store) -> None:
        assert store.settings.redis_url is not None
        self.urls = [store.settings.database_url, store.settings.redis_url]
        self.seeds = iter(range(10**9))
        self.writers: list[Process] = []
        self.readers: list[tuple[Process, list[str]]] = []

    def start(self, kind: str, *arguments: str) -> Process:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.events.soaking", kind, *self.urls, *arguments],
            stdin=subprocess.PIPE,
        )

    def add_writer(self) -> None:
        self.writers.append(self.start("write", str(next(self.seeds))))

    def add_reader(self, name: str, partitions: int) -> None:
        arguments = [name, str(partitions)]
        self.readers.append((self.start("read", *arguments), arguments))

    def kill_a_writer(self) -> None:
        victim = self.writers.pop(random.randrange(len(self.writers)))
        victim.kill()
        victim.communicate()
        self.add_writer()

    def kill_a_reader(self) -> None:
        victim, arguments = self.readers.pop(random.randrange(len(self.readers)))
        victim.kill()
        victim.communicate()
        self.add_reader(arguments[0], int(arguments[1]))

    def stop(self, processes: list[Process]) -> None:
        for process in processes:
            with contextlib.suppress(BrokenPipeError):
                process.communicate(timeout=60)
            assert process.returncode == 0, "it ended by itself"

    def kill_all(self) -> None:
        for process in [*self.writers, *(process for process, _ in self.readers)]:
            process.kill()
            process.communicate()


@pytest.fixture
def cast(store: Store) -> Iterator[Cast]:
    made = Cast(store)
    yield made
    made.kill_all()


def positions_of(connection: Connection, text: str, *values: object) -> list[Seen]:
    return [Seen(*row) for row in connection.execute(text.encode(), values).fetchall()]


def kill_a_backend(connection: Connection) -> bool:
    """One of the writers' or readers', whatever it does just now, but none of this process."""
    row = connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
        "AND pid <> pg_backend_pid() AND backend_type = 'client backend' ORDER BY random() LIMIT 1"
    ).fetchone()
    return row is not None and bool(row[0])


@pytest.mark.slow
@pytest.mark.timeout(SECONDS * 2 + 180)
def test_eight_writers_under_three_subscribers(store: Store, connection: Connection, cast: Cast) -> None:
    make_seen(connection)
    connection.execute("CREATE INDEX ON seen (reader, id)")
    for _ in range(WRITERS):
        cast.add_writer()
    cast.add_reader("process", 1)
    for _ in range(2):
        cast.add_reader("group", 4)
    backends = writers = readers = 0
    in_thread = Subscription(
        store, "thread", lambda tx, event: note(tx, event, "thread"), batch_size=200, lease_seconds=2.0
    )
    with in_thread:
        until(lambda: events.get_horizon(store).last_position > 0, seconds=60)
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            time.sleep(random.uniform(0.0, 0.5))
            kind = random.random()
            if kind < 0.7:
                backends += kill_a_backend(connection)
            elif kind < 0.9:
                cast.kill_a_writer()
                writers += 1
            else:
                cast.kill_a_reader()
                readers += 1
        cast.stop(cast.writers)
        cast.writers.clear()
        last = events.get_horizon(store)
        assert last.position == last.last_position, "nobody appends any more"
        until(
            lambda: all(
                found.position >= last.position
                for name in READERS
                for found in events.list_checkpoints(store, name)
            ),
            "all have come to the end",
            90,
        )
    cast.stop([process for process, _ in cast.readers])
    cast.readers.clear()

    log = "SELECT position, aggregate_type || aggregate_id, version FROM event_log ORDER BY position"
    committed = positions_of(connection, log)
    assert len(committed) > 20 * SECONDS
    assert len(committed) < last.last_position, "some were rolled back"
    for name in READERS:
        received = positions_of(
            connection,
            "SELECT seen.position, aggregate_type || aggregate_id, seen.version FROM seen "
            "LEFT JOIN event_log ON event_log.position = seen.position WHERE reader = %s ORDER BY seen.id",
            name,
        )
        faults = judge(received, committed)
        if name == "group":
            # Partitions go their own ways; each aggregate is in one.
            faults = [fault for fault in faults if fault != "backwards"]
        assert faults == [], name
        assert events.list_parked(store, name) == []
    wrong = connection.execute(
        "SELECT count(*) FROM aggregates AS a WHERE version <> (SELECT count(*) FROM event_log AS e "
        "WHERE e.aggregate_id = a.aggregate_id AND e.aggregate_type = a.aggregate_type)"
    ).fetchone()
    assert wrong == (0,), "heads and events agree"
    assert min(backends, writers) > 0 or SECONDS < 20
    print(f"{len(committed)} events, {backends} backends, {writers} writers, {readers} readers killed")
