"""Statements that the library sends by libpq itself have the outcome that they have by psycopg."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import psycopg
import pytest

from rootstream_store import Store
from rootstream_store.capi import _entry
from rootstream_store.database import Exchange, _prepared
from rootstream_store.errors import (
    InvalidInput,
    NotFound,
    QueryError,
    RootStreamError,
    Timeout,
    Unavailable,
)

from ..statements import BACKEND, SLEEP, statement
from ..waiting import until
from .binding import Native

ONE = statement("SELECT 1::bigint AS one", int)
ECHO = statement("SELECT %(value)s::text AS value", str)
BYTES = statement("SELECT length(%(value)s::bytea)::bigint AS length", int)
WRITE = statement("WITH slept AS (SELECT pg_sleep(30)) INSERT INTO users (username) SELECT '' FROM slept")


class Counting:
    """Libpq by the library, and how often it did what."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self.outcomes: list[int] = []

    def send(self, *given: Any) -> int:
        outcome = self._exchange.send(*given)
        self.outcomes.append(outcome)
        return outcome

    def is_busy(self, connection: int | None) -> bool:
        return self._exchange.is_busy(connection)


@pytest.fixture
def libpq(native: Native, monkeypatch: pytest.MonkeyPatch) -> Counting:
    """In place of psycopg, in this process."""
    assert _entry.libpq is not None
    counting = Counting(_entry.libpq)
    monkeypatch.setattr(_prepared, "_exchange", counting)
    return counting


@pytest.fixture
def single(database_url: str, libpq: Counting) -> Iterator[Store]:
    """A store with one connection."""
    with Store.open(database_url, pool_size=1, application_name="exchanging", retry_deadline=0) as store:
        yield store


def test_values_of_all_kinds(single: Store, libpq: Counting) -> None:
    assert single.one(ONE) == 1
    assert single.one(ECHO, value="ä" * 3) == "äää"
    with single._connection() as connection:
        assert _prepared.run_prepared(connection, ECHO, {"value": None}).rows() == [(None,)]
    assert single.one(ECHO, value="x" * 3_000_000) == "x" * 3_000_000  # more than a socket takes at once
    assert single.one(BYTES, value=b"12\x0045") == 5
    many = "SELECT " + "+".join(f"%(a{number})s::bigint" for number in range(33)) + " AS sum"
    assert set(libpq.outcomes) == {_prepared._ANSWERED}
    assert single.one(statement(many, int), **{f"a{number}": 1 for number in range(33)}) == 33
    assert libpq.outcomes[-1] == _prepared._NOT_SENT  # by psycopg, being more than there is room for


def test_what_the_server_refuses(single: Store, libpq: Counting) -> None:
    with pytest.raises(InvalidInput) as caught:
        single.one(statement("SELECT 1 / %(a)s::bigint AS a", int), a=0)
    assert caught.value.sqlstate == "22012"
    with pytest.raises(QueryError):
        single.one(statement("SELECT nothing FROM nowhere", int))
    with pytest.raises(NotFound):
        single.one(statement("SELECT 1::bigint AS one WHERE false", int))
    assert single.one(ONE) == 1  # on the same connection


def test_notices_that_come_with_an_answer(single: Store, libpq: Counting) -> None:
    """For each of them libpq calls psycopg, which needs Python's lock."""
    single.run(
        statement(
            "CREATE FUNCTION noisy() RETURNS bigint LANGUAGE plpgsql AS "
            "$$ BEGIN FOR i IN 1..500 LOOP RAISE NOTICE 'notice number %%', i; END LOOP; RETURN 7; END $$"
        )
    )
    assert single.one(statement("SELECT noisy() AS n", int)) == 7
    assert libpq.outcomes[-1] == _prepared._ANSWERED


def test_what_the_commit_meets_after_the_rows(single: Store) -> None:
    """An error that comes behind the rows is not lost."""
    single.run(
        statement(
            "CREATE TABLE ups (id bigint PRIMARY KEY, up bigint REFERENCES ups DEFERRABLE INITIALLY DEFERRED)"
        )
    )
    add = statement("INSERT INTO ups VALUES (%(id)s::bigint, %(up)s::bigint) RETURNING id", int)
    with pytest.raises(NotFound):
        single.one(add, id=1, up=2)
    assert single.one(add, id=1, up=1) == 1


def test_a_copy_is_no_query(single: Store) -> None:
    for text in ("COPY (SELECT 1) TO STDOUT", "COPY pg_class TO STDOUT"):
        with pytest.raises(RootStreamError):
            single.run(statement(text))
    assert single.one(ONE) == 1


def test_a_slow_statement_and_its_limit(single: Store) -> None:
    assert single.run(SLEEP, seconds=0.3) == 1
    single.run(statement("SET statement_timeout = '50ms'"))
    with pytest.raises(Timeout):
        single.run(SLEEP, seconds=5.0)
    assert single.one(ONE) == 1


def test_a_server_that_is_frozen(single: Store, libpq: Counting) -> None:
    pid = single.one(BACKEND)
    assert single.one(ONE) == 1  # prepared, by psycopg
    with single._connection() as connection:
        connection.limit = 1.0
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(Timeout, match="did not answer within 1 s"):
            single.one(ONE)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert libpq.outcomes == [_prepared._ANSWERED, _prepared._ANSWERED, _prepared._TOO_LATE]
    assert single.one(ONE) == 1


def test_notifications_are_dropped(single: Store) -> None:
    """As by psycopg: else they would gather in memory for ever."""
    assert single.one(ONE) == 1  # is prepared, which psycopg does
    single.run(statement("LISTEN something"))
    single.run(statement("NOTIFY something"))  # itself hears it with the answer
    assert single.one(ONE) == 1
    with single._connection() as connection:
        pgconn: Any = connection.pgconn
        assert pgconn.notifies() is None


@pytest.mark.parametrize("way", ["psycopg", "libpq"])
def test_a_backend_that_is_ended_in_the_midst(
    single: Store, database_url: str, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """The server says that it ended the session, and so nothing was applied."""
    if way == "psycopg":
        monkeypatch.setattr(_prepared, "_exchange", None)
    with psycopg.connect(database_url, autocommit=True) as admin:
        error = failing(single, lambda: end_backend(admin))
        assert (error.sqlstate, error.outcome_unknown) == ("57P01", False)
        single.one(ONE)
        assert end_backend(admin) == 1
        with pytest.raises(Unavailable):  # idle, it was not known to be gone
            single.one(ONE)
        assert single.one(ONE) == 1


def test_a_connection_that_is_lost_in_the_midst(single: Store, libpq: Counting) -> None:
    with single._connection() as connection:
        descriptor = connection.fileno()
    with socket.socket(fileno=os.dup(descriptor)) as end:
        error = failing(single, lambda: end.shutdown(socket.SHUT_RDWR))
    assert (error.sqlstate, error.outcome_unknown) == (None, True)
    assert _prepared._LOST in libpq.outcomes
    assert single.one(ONE) == 1


def end_backend(admin: psycopg.Connection) -> int:
    """How many there were."""
    return len(
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'exchanging'"
        ).fetchall()
    )


def failing(store: Store, harm: Callable[[], object]) -> Unavailable:
    """The error of a statement that runs when the harm is done."""
    running = (
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'exchanging' AND state = 'active'"
    )

    def wait_and_harm() -> None:
        with psycopg.connect(store.settings.database_url, autocommit=True) as admin:
            until(lambda: admin.execute(running).fetchone() == (1,), "it runs")
        harm()

    thread = threading.Thread(target=wait_and_harm)
    thread.start()
    with pytest.raises(Unavailable) as caught:
        store.run(WRITE)
    thread.join()
    return caught.value


def test_a_closed_connection(single: Store) -> None:
    with suppress(RootStreamError), single._connection() as connection:
        connection.close()
        with pytest.raises(psycopg.OperationalError, match="closed"):
            _prepared.run_prepared(connection, ONE, {})
    assert single.one(ONE) == 1


def test_arguments_that_do_not_fit_are_left_to_psycopg(libpq: Counting) -> None:
    wrong: list[tuple[Any, ...]] = [
        (None, b"x", [], None, None),
        (1, "x", [], None, None),
        (1, b"x", (), None, None),
        (1, b"x", [1], None, None),
        (1, b"x", [], None, "soon"),
    ]
    for given in wrong:
        assert libpq.send(*given) == _prepared._NOT_SENT
    with pytest.raises(TypeError):
        libpq.send(1)


@pytest.mark.parametrize("owns_python", [0, 1])
def test_it_is_for_an_interpreter_without_signals(
    libpq: Counting, monkeypatch: pytest.MonkeyPatch, owns_python: int
) -> None:
    monkeypatch.setattr(_entry, "_start_threads_without_signals", lambda: None)
    monkeypatch.setattr(_entry, "libpq", None)
    monkeypatch.setattr(_prepared, "_exchange", None)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    monkeypatch.setattr(logging.getLogger(), "handlers", [*logging.getLogger().handlers])
    _entry.begin(owns_python, libpq)
    assert _entry.libpq is libpq
    assert _prepared._exchange is (libpq if owns_python else None)
