"""Batches to one aggregate, durable, on one connection: what an event costs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import msgspec
import psycopg
from psycopg.sql import SQL, Identifier
from psycopg.types.json import set_json_dumps

from rootstream_store import Store, events

from .._harness import Call
from ._bench import Bench
from ._eventsourcing import Recorder, recorder
from ._logs import DATA, INSERT, Cursor, Naive, create_bare_table, make_row

__all__ = ["COPY_TYPES", "copy_statement", "run"]

_SIZES = (10, 100, 1000)
_BARE = "bare executemany, one transaction"
_OURS = "events.append_many, ANY"
_EXACT = "events.append_many, exact version"
_NAIVE = "naive, a transaction each"

COPY_TYPES = ["text", "text", "int8", "text", "uuid", "jsonb", "int8"]

Batch = Callable[[int], None]
"""Appends so many events."""


def run(bench: Bench) -> None:
    """A table for each size, and the target of 100."""
    with contextlib.ExitStack() as stack:
        contenders: dict[str, Batch] = {
            _BARE: _executemany(*_table(stack, bench)),
            "bare pipeline, one transaction": _pipeline(*_table(stack, bench)),
            "bare COPY, text": _copy_text(*_table(stack, bench)),
            "bare COPY, binary": _copy_binary(*_table(stack, bench)),
            _NAIVE: _naive(*_table(stack, bench)),
            _OURS: _any(stack.enter_context(bench.store())),
            _EXACT: _exact(stack.enter_context(bench.store())),
        }
        for name, ordered in (("eventsourcing, ordered", True), ("eventsourcing, unordered", False)):
            url = bench.database()
            if (found := stack.enter_context(recorder(url, ordered=ordered))) is not None:
                contenders[name] = _recorder(found)
        for size in _SIZES:
            figures = bench.per_event(
                f"append {size:,} events to one aggregate (durable)",
                {
                    name: _sized(batch, size)
                    for name, batch in contenders.items()
                    if not (bench.quick and name == _NAIVE and size == 1000)  # a second a call
                },
                _BARE,
                rounds=12 if size == 1000 else 24,
                calls={10: 20, 100: 6, 1000: 1}[size],
                events=size,
            )
            if size == 100:
                for name in (_OURS, _EXACT):
                    bench.target(f"{name}: an event of 100", 15, figures[name]["p50_us"], "µs")


def copy_statement(table: str, *, binary: bool) -> SQL:
    """COPY of the columns that make_row fills."""
    return SQL(
        f"COPY {table} (aggregate_id, aggregate_type, version, event_type, event_id, event_data, user_id) "
        f"FROM STDIN{' (FORMAT binary)' if binary else ''}"
    )


def _sized(batch: Batch, size: int) -> Call:
    return lambda: batch(size)


def _table(stack: contextlib.ExitStack, bench: Bench) -> tuple[psycopg.Connection, Cursor]:
    url = bench.database()
    connection = stack.enter_context(psycopg.connect(url, autocommit=True))
    create_bare_table(connection, "bare_log")
    set_json_dumps(msgspec.json.encode, connection)
    return connection, Cursor()


def _rows(cursor: Cursor, size: int) -> list[tuple[object, ...]]:
    aggregate_id, version = cursor.next()
    cursor.versions[aggregate_id] = version + size
    return [make_row(aggregate_id, number) for number in range(version + 1, version + 1 + size)]


def _executemany(connection: psycopg.Connection, cursor: Cursor) -> Batch:
    insert = INSERT.format(Identifier("bare_log"))

    def batch(size: int) -> None:
        with connection.transaction():
            connection.cursor().executemany(insert, _rows(cursor, size))

    return batch


def _pipeline(connection: psycopg.Connection, cursor: Cursor) -> Batch:
    insert = INSERT.format(Identifier("bare_log")).as_string()

    def batch(size: int) -> None:
        with connection.pipeline(), connection.transaction():
            for row in _rows(cursor, size):
                connection.execute(insert, row, prepare=True)

    return batch


def _copy_text(connection: psycopg.Connection, cursor: Cursor) -> Batch:
    statement = copy_statement("bare_log", binary=False)

    def batch(size: int) -> None:
        with connection.cursor().copy(statement) as copy:
            for row in _rows(cursor, size):
                copy.write_row(row)

    return batch


def _copy_binary(connection: psycopg.Connection, cursor: Cursor) -> Batch:
    statement = copy_statement("bare_log", binary=True)

    def batch(size: int) -> None:
        with connection.cursor().copy(statement) as copy:
            copy.set_types(COPY_TYPES)
            for row in _rows(cursor, size):
                # The data as they are: in binary form text would become a JSON string.
                copy.write_row((*row[:5], DATA, row[6]))

    return batch


def _naive(connection: psycopg.Connection, cursor: Cursor) -> Batch:
    naive = Naive(connection, "bare_log")

    def batch(size: int) -> None:
        aggregate_id, _ = cursor.next()
        for _ in range(size):
            naive.append(aggregate_id)

    return batch


def _new_events(size: int) -> list[events.NewEvent]:
    return [events.NewEvent("ViewerJoined", DATA, user_id=7) for _ in range(size)]


def _any(store: Store) -> Batch:
    cursor = Cursor()

    def batch(size: int) -> None:
        events.append_many(store, "stream", cursor.next()[0], _new_events(size))

    return batch


def _exact(store: Store) -> Batch:
    cursor = Cursor()

    def batch(size: int) -> None:
        aggregate_id, version = cursor.next()
        appended = events.append_many(store, "stream", aggregate_id, _new_events(size), expected=version)
        cursor.versions[aggregate_id] = appended[-1].version

    return batch


def _recorder(found: Recorder) -> Batch:
    cursor = Cursor()

    def batch(size: int) -> None:
        aggregate_id, version = cursor.next()
        found.append(aggregate_id, range(version + 1, version + 1 + size))
        cursor.versions[aggregate_id] = version + size

    return batch
