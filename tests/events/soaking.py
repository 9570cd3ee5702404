"""The programs of the soak: a writer that does everything a writer may do, at random, and a reader."""

from __future__ import annotations

import contextlib
import os
import random
import sys
import threading
from typing import Any

import psycopg

from rootstream_store import events
from rootstream_store.errors import RootStreamError
from rootstream_store.events import NewEvent, Subscription
from rootstream_store.store import Store

from .readers import note

__all__ = ["AGGREGATES", "main"]

AGGREGATES = 40
"""Shared by all writers, so that they queue and conflict."""
_COPY = "COPY event_log (aggregate_id, aggregate_type, version, event_type, event_data) FROM STDIN"
_INSERT = (
    "INSERT INTO event_log (aggregate_id, aggregate_type, version, event_type, event_data) "
    "VALUES (%s, 'Raw', %s, 'E', '{}')"
)


class _Undo(Exception):
    pass


class Writer:
    """Appends by one way or another; who kills it, or its backends, does so at any moment."""

    def __init__(self, store: Store, url: str, seed: int) -> None:
        self.store = store
        self.url = url
        self.random = random.Random(seed)
        self.raw_version = 0
        self.raw_name = f"raw {os.getpid()}"
        self._raw: psycopg.Connection[Any] | None = None

    def step(self) -> None:
        """One way to append, chosen at random."""
        self.random.choice(
            (
                self.single,
                self.single,
                self.batch,
                self.expected,
                self.two,
                self.savepoint,
                self.raw,
                self.copy,
            )
        )()

    def single(self) -> None:
        events.append(self.store, "Soak", self.aggregate(), "E", {"n": 1})

    def batch(self) -> None:
        new = [NewEvent("E", {"n": number}) for number in range(self.random.randint(1, 20))]
        events.append_many(self.store, "Soak", self.aggregate(), new)

    def expected(self) -> None:
        aggregate = self.aggregate()
        version = events.get_version(self.store, "Soak", aggregate)
        events.append(self.store, "Soak", aggregate, "E", {}, expected=version)

    def two(self) -> None:
        first, second = sorted(self.random.sample(range(AGGREGATES), 2))
        with contextlib.suppress(_Undo), self.store.transaction() as tx:
            events.append(tx, "Soak", str(first), "E", {})
            if self.random.random() < 0.2:
                threading.Event().wait(self.random.random() * 0.05)
            events.append_many(tx, "Soak", str(second), [NewEvent("E", {}), NewEvent("E", {})])
            self.perhaps_undo()

    def savepoint(self) -> None:
        with contextlib.suppress(_Undo), self.store.transaction() as tx:
            with contextlib.suppress(_Undo), tx.transaction() as inner:
                events.append(inner, "Soak", self.aggregate(), "E", {})
                self.perhaps_undo()
            if self.random.random() < 0.5:
                events.append(tx, "Soak Mine", f"{os.getpid()}", "E", {})
            self.perhaps_undo()

    def raw(self) -> None:
        """INSERT by hand, some statements a transaction."""
        connection, version = self.connection(), self.raw_version
        for _ in range(self.random.randint(1, 3)):
            version += 1
            connection.execute(_INSERT, [self.raw_name, version])
        self.end_raw(connection, version)

    def copy(self) -> None:
        connection, version = self.connection(), self.raw_version
        with connection.cursor() as cursor, cursor.copy(_COPY) as rows:
            for _ in range(self.random.randint(1, 30)):
                version += 1
                rows.write_row((self.raw_name, "Raw", version, "E", "{}"))
        self.end_raw(connection, version)

    def end_raw(self, connection: psycopg.Connection[Any], version: int) -> None:
        if self.random.random() < 0.2:
            connection.rollback()
        else:
            connection.commit()
            self.raw_version = version

    def connection(self) -> psycopg.Connection[Any]:
        if self._raw is None or self._raw.closed:
            # Nobody knows whether the last commit was done: another name begins at 1.
            self.raw_name, self.raw_version = f"raw {os.getpid()} {self.random.random()}", 0
            self._raw = psycopg.connect(self.url)
        return self._raw

    def aggregate(self) -> str:
        return str(self.random.randrange(AGGREGATES))

    def perhaps_undo(self) -> None:
        if self.random.random() < 0.2:
            raise _Undo


def write(url: str, redis_url: str, seed: int) -> None:
    """Writes until its standard input is closed."""
    stop = stopped()
    with Store.open(url, redis_url, pool_size=2) as store:
        writer = Writer(store, url, seed)
        while not stop.is_set():
            # Conflicts, deadlocks and lost connections are what this is about.
            with contextlib.suppress(RootStreamError, psycopg.Error):
                writer.step()


def read(url: str, redis_url: str, name: str, partitions: int) -> None:
    """Reads until its standard input is closed."""
    stop = stopped()
    with (
        Store.open(url, redis_url, pool_size=3) as store,
        Subscription(
            store,
            name,
            lambda tx, event: note(tx, event, name),
            partitions=partitions,
            lease_seconds=2.0,
            poll_interval=0.2,
            batch_size=200,
        ),
    ):
        stop.wait()


def stopped() -> threading.Event:
    event = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        event.set()

    threading.Thread(target=wait, daemon=True).start()
    return event


def main() -> None:
    """`write URL REDIS SEED` or `read URL REDIS NAME PARTITIONS`."""
    kind, url, redis_url, *rest = sys.argv[1:]
    if kind == "write":
        write(url, redis_url, int(rest[0]))
    else:
        read(url, redis_url, rest[0], int(rest[1]))


if __name__ == "__main__":
    main()
