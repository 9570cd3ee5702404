"""Many events at once by COPY: events a second, durable, with the head rows moved first."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable

import msgspec
import psycopg
from psycopg.types.json import set_json_dumps
from uuid_utils.compat import uuid7

from rootstream_store import Store, events
from rootstream_store.events import AggregateEvents, NewEvent

from ._bench import Bench
from ._logs import AGGREGATES, DATA, FILLED_VERSION, create_bare_table
from .batches import COPY_TYPES, copy_statement

__all__ = ["run"]

_BARE = "COPY into a bare table, binary"
_OURS = "COPY into event_log, binary, heads first"
_IMPORT = "events.import_events"

Import = Callable[[int, int], None]
"""Writes the next events of each aggregate: after this version, so many."""

_MOVE_HEADS = """
UPDATE aggregates
SET version = version + %(each)s
WHERE aggregate_type = 'stream' AND aggregate_id = ANY(%(ids)s)
"""


def run(bench: Bench) -> None:
    """The table, and the target."""
    each = 5 if bench.quick else 25
    with contextlib.ExitStack() as stack:
        contenders: dict[str, Import] = {
            _BARE: _copy(_connect(stack, bench), "bare_log", heads=False),
            _OURS: _copy(_connect(stack, bench), "event_log", heads=True),
            _IMPORT: _import(stack.enter_context(bench.store(1))),
        }
        rates: dict[str, list[float]] = {name: [] for name in contenders}
        cpu: dict[str, list[float]] = {name: [] for name in contenders}
        version = FILLED_VERSION
        for _ in range(3 if bench.quick else 5):
            for name, write in contenders.items():
                start, cpu_start = time.perf_counter(), time.thread_time()
                write(version, each)
                seconds, used = time.perf_counter() - start, time.thread_time() - cpu_start
                rates[name].append(AGGREGATES * each / seconds)
                cpu[name].append(used / (AGGREGATES * each) * 1e6)
            version += each
    figures = bench.rates(
        f"write {AGGREGATES * each:,} events in one transaction (durable)",
        {name: statistics.median(values) for name, values in rates.items()},
        _BARE,
        cpu_us=("client CPU µs", ".2f", {name: statistics.median(values) for name, values in cpu.items()}),
    )
    for name in (_OURS, _IMPORT):
        bench.target(name, 100_000, figures[name]["events_per_s"], "events/s", at_most=False)


def _connect(stack: contextlib.ExitStack, bench: Bench) -> psycopg.Connection:
    url = bench.database()
    connection = stack.enter_context(psycopg.connect(url, autocommit=True))
    create_bare_table(connection, "bare_log")
    set_json_dumps(msgspec.json.encode, connection)
    return connection


def _copy(connection: psycopg.Connection, table: str, *, heads: bool) -> Import:
    ids = [str(number) for number in range(1, AGGREGATES + 1)]
    statement = copy_statement(table, binary=True)

    def write(version: int, each: int) -> None:
        with connection.transaction(), connection.cursor() as cursor:
            if heads:
                cursor.execute(_MOVE_HEADS, {"each": each, "ids": ids})
            with cursor.copy(statement) as copy:
                copy.set_types(COPY_TYPES)
                # As they come in: those of one aggregate lie among those of the others.
                for number in range(version + 1, version + 1 + each):
                    for name in ids:
                        copy.write_row((name, "stream", number, "ViewerJoined", uuid7(), DATA, 7))

    return write


def _import(store: Store) -> Import:
    def write(_: int, each: int) -> None:
        new = [NewEvent("ViewerJoined", DATA, user_id=7)] * each
        events.import_events(
            store, [AggregateEvents("stream", number, new) for number in range(1, AGGREGATES + 1)]
        )

    return write
