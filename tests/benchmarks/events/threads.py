"""Eight writers at once, on aggregates of their own and on one and the same: events a second, durable.

Not pinned to one CPU: what is compared is how the designs let writers run beside each other.
"""

from __future__ import annotations

import contextlib
import random
import statistics
import threading
import time
from collections.abc import Callable
from typing import Final

import psycopg
from psycopg.sql import SQL, Identifier

from rootstream_store import Store, events

from ._bench import Bench
from ._eventsourcing import Recorder, recorder
from ._logs import AGGREGATES, DATA, INSERT, Cursor, Naive, create_bare_table, make_row

__all__ = ["run"]

_THREADS: Final = 8
_SHARED: Final = "1"
"""The aggregate that all append to."""
_BARE = "bare prepared INSERT, retried"

Append = Callable[[Cursor, str | None], int]
"""Appends one event, to the next aggregate of the cursor or to the given one; returns how often it had to try
again."""
Writer = Callable[[int], Append]
"""What the thread of this number calls."""


def run(bench: Bench) -> None:
    """A table for aggregates of their own, and one for the shared one."""
    with contextlib.ExitStack() as stack:
        writers: dict[str, Writer] = {
            _BARE: _bare(stack, bench),
            "naive BEGIN, SELECT, INSERT, retried": _naive(stack, bench),
            "events.append, ANY": _any(stack.enter_context(bench.store(_THREADS))),
            "events.Appender": _grouped(events.Appender(stack.enter_context(bench.store(_THREADS)))),
        }
        url = bench.database()
        if (found := stack.enter_context(recorder(url, pool_size=_THREADS))) is not None:
            writers["eventsourcing, ordered, retried"] = _recorder(found)
        for title, shared in (("aggregates of their own", None), ("one aggregate", _SHARED)):
            _compare(bench, f"{_THREADS} threads append to {title} (durable)", writers, shared)


def _compare(bench: Bench, title: str, writers: dict[str, Writer], shared: str | None) -> None:
    seconds = 0.2 if bench.quick else 1.0
    rates: dict[str, list[float]] = {name: [] for name in writers}
    retries: dict[str, list[float]] = {name: [] for name in writers}
    order = list(writers.items())
    cursors = {name: _cursors() for name in writers}
    for number in range(3 if bench.quick else 5):
        random.shuffle(order)
        for name, writer in order:
            done, again, took = _race(writer, cursors[name], shared, seconds)
            if number:  # the first round warms up
                rates[name].append(done / took)
                retries[name].append(again / max(1, done))
    bench.rates(
        title,
        {name: statistics.median(values) for name, values in rates.items()},
        _BARE,
        retries=(
            "retries an event",
            ".2f",
            {name: statistics.median(values) for name, values in retries.items()},
        ),
    )


def _cursors() -> list[Cursor]:
    each = AGGREGATES // _THREADS
    return [Cursor(1 + number * each, each) for number in range(_THREADS)]


def _race(
    writer: Writer, cursors: list[Cursor], shared: str | None, seconds: float
) -> tuple[int, int, float]:
    """How many events, how many retries, in how many seconds."""
    barrier = threading.Barrier(_THREADS + 1)
    stopped = threading.Event()
    counts = [(0, 0)] * _THREADS

    def work(number: int) -> None:
        append, cursor = writer(number), cursors[number]
        done = again = 0
        barrier.wait()
        while not stopped.is_set():
            again += append(cursor, shared)
            done += 1
        counts[number] = (done, again)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(_THREADS)]
    for thread in threads:
        thread.start()
    barrier.wait()
    start = time.perf_counter()
    stopped.wait(seconds)
    stopped.set()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - start
    return sum(done for done, _ in counts), sum(again for _, again in counts), took


def _connections(stack: contextlib.ExitStack, bench: Bench) -> list[psycopg.Connection]:
    url = bench.database()
    found = [stack.enter_context(psycopg.connect(url, autocommit=True)) for _ in range(_THREADS)]
    create_bare_table(found[0], "bare_log")
    return found


def _bare(stack: contextlib.ExitStack, bench: Bench) -> Writer:
    connections = _connections(stack, bench)
    insert = INSERT.format(Identifier("bare_log")).as_string()
    find = (
        SQL("SELECT max(version) FROM {} WHERE aggregate_id = %s AND aggregate_type = 'stream'")
        .format(Identifier("bare_log"))
        .as_string()
    )

    def writer(number: int) -> Append:
        connection = connections[number]

        def append(cursor: Cursor, shared: str | None) -> int:
            aggregate_id, version = (
                cursor.next() if shared is None else (shared, cursor.versions.get(shared, 0))
            )
            again = 0
            while True:
                try:
                    connection.execute(insert, make_row(aggregate_id, version + 1), prepare=True)
                except psycopg.errors.UniqueViolation:
                    again += 1
                    row = connection.execute(find, (aggregate_id,), prepare=True).fetchone()
                    assert row is not None
                    version = row[0]
                else:
                    cursor.versions[aggregate_id] = version + 1
                    return again

        return append

    return writer


def _naive(stack: contextlib.ExitStack, bench: Bench) -> Writer:
    connections = _connections(stack, bench)

    def writer(number: int) -> Append:
        naive = Naive(connections[number], "bare_log")

        def append(cursor: Cursor, shared: str | None) -> int:
            aggregate_id = shared or cursor.next()[0]
            again = 0
            while True:
                try:
                    naive.append(aggregate_id)
                except psycopg.errors.UniqueViolation:
                    again += 1
                else:
                    return again

        return append

    return writer


def _any(store: Store) -> Writer:
    def append(cursor: Cursor, shared: str | None) -> int:
        events.append(store, "stream", shared or cursor.next()[0], "ViewerJoined", DATA, user_id=7)
        return 0

    return lambda _: append


def _grouped(appender: events.Appender) -> Writer:
    def append(cursor: Cursor, shared: str | None) -> int:
        appender.append("stream", shared or cursor.next()[0], "ViewerJoined", DATA, user_id=7)
        return 0

    return lambda _: append


def _recorder(found: Recorder) -> Writer:
    def append(cursor: Cursor, shared: str | None) -> int:
        aggregate_id, version = cursor.next() if shared is None else (shared, found.last_version(shared))
        again = 0
        while True:
            try:
                found.append(aggregate_id, [version + 1])
            except found.conflict:
                again += 1
                version = found.last_version(aggregate_id)
            else:
                cursor.versions[aggregate_id] = version + 1
                return again

    return lambda _: append
