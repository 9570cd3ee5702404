"""One event, durable, on one connection."""

from __future__ import annotations

import contextlib

import psycopg
from psycopg.pq import ExecStatus
from psycopg.sql import Identifier
from uuid_utils.compat import uuid7

from rootstream_store import Store, events

from .._harness import Call
from ._bench import Bench
from ._eventsourcing import Recorder, recorder
from ._logs import DATA, INSERT, TEXT, Cursor, Naive, create_bare_table, make_row

__all__ = ["run"]

_BARE = "bare prepared INSERT"
_EXACT = "events.append, exact version"

_LIBPQ = b"""
INSERT INTO bare_log (aggregate_id, aggregate_type, version, event_type, event_id, event_data, user_id)
VALUES ($1::text, $2::text, $3::bigint, $4::text, $5::uuid, $6::jsonb, $7::bigint)
"""


def run(bench: Bench) -> None:
    """The table, and the target of one append."""
    with contextlib.ExitStack() as stack:
        contenders = {
            _BARE: _bare(stack, bench),
            "bare INSERT by libpq": _libpq(stack, bench),
            "naive BEGIN, SELECT, INSERT": _naive(stack, bench),
            _EXACT: _exact(stack.enter_context(bench.store())),
            "events.append, ANY": _any(stack.enter_context(bench.store())),
            "events.append, ANY, event_id": _with_id(stack.enter_context(bench.store())),
        }
        for name, ordered in (("eventsourcing, ordered", True), ("eventsourcing, unordered", False)):
            url = bench.database()
            if (found := stack.enter_context(recorder(url, ordered=ordered))) is not None:
                contenders[name] = _recorder(found)
        figures = bench.calls("append one event (durable)", contenders, _BARE, rounds=60, calls=40)
    for name in (_EXACT, "events.append, ANY"):
        bench.target(f"{name}: p50 beside the bare INSERT", 1.15, figures[name]["ratio"])


def _table(stack: contextlib.ExitStack, bench: Bench, *, unique: bool = True) -> psycopg.Connection:
    url = bench.database()
    connection = stack.enter_context(psycopg.connect(url, autocommit=True))
    create_bare_table(connection, "bare_log", unique=unique)
    return connection


def _bare(stack: contextlib.ExitStack, bench: Bench) -> Call:
    connection = _table(stack, bench)
    insert = INSERT.format(Identifier("bare_log")).as_string()
    cursor = Cursor()

    def call() -> None:
        aggregate_id, version = cursor.next()
        connection.execute(insert, make_row(aggregate_id, version + 1), prepare=True)
        cursor.versions[aggregate_id] = version + 1

    return call


def _libpq(stack: contextlib.ExitStack, bench: Bench) -> Call:
    pgconn = _table(stack, bench).pgconn
    assert pgconn.prepare(b"insert", _LIBPQ).status == ExecStatus.COMMAND_OK
    cursor = Cursor()

    def call() -> None:
        aggregate_id, version = cursor.next()
        result = pgconn.exec_prepared(
            b"insert",
            [
                aggregate_id.encode(),
                b"stream",
                str(version + 1).encode(),
                b"ViewerJoined",
                uuid7().hex.encode(),
                TEXT.encode(),
                b"7",
            ],
        )
        assert result.status == ExecStatus.COMMAND_OK, result.error_message
        cursor.versions[aggregate_id] = version + 1

    return call


def _naive(stack: contextlib.ExitStack, bench: Bench) -> Call:
    naive = Naive(_table(stack, bench, unique=False), "bare_log")
    cursor = Cursor()
    return lambda: naive.append(cursor.next()[0])


def _any(store: Store) -> Call:
    cursor = Cursor()
    return lambda: events.append(store, "stream", cursor.next()[0], "ViewerJoined", DATA, user_id=7)


def _with_id(store: Store) -> Call:
    cursor = Cursor()
    return lambda: events.append(
        store, "stream", cursor.next()[0], "ViewerJoined", DATA, user_id=7, event_id=uuid7()
    )


def _exact(store: Store) -> Call:
    cursor = Cursor()

    def call() -> None:
        aggregate_id, version = cursor.next()
        appended = events.append(
            store, "stream", aggregate_id, "ViewerJoined", DATA, user_id=7, expected=version
        )
        cursor.versions[aggregate_id] = appended.version

    return call


def _recorder(found: Recorder) -> Call:
    cursor = Cursor()

    def call() -> None:
        aggregate_id, version = cursor.next()
        found.append(aggregate_id, [version + 1])
        cursor.versions[aggregate_id] = version + 1

    return call
