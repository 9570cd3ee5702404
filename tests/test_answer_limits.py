"""How long an answer is waited for follows the server's own limit, wherever that was set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

from rootstream_store.database import run_raw
from rootstream_store.errors import InvalidInput, Timeout
from rootstream_store.store import Store
from rootstream_store.transaction import Transaction

from .statements import DIVIDE, SLEEP, statement

SET = statement("SELECT set_config('statement_timeout', %(value)s::text, %(local)s::boolean)", str)


def limit(store: Store) -> float | None:
    connection = store._pool.acquire()
    try:
        return connection.limit
    finally:
        store._pool.release(connection)


def limit_within(tx: Transaction) -> float | None:
    return tx._connection.limit


@pytest.fixture
def single(database_url: str) -> Iterator[Store]:
    """A store with one connection, so that all calls meet on it."""
    with Store.open(database_url, pool_size=1) as store:
        yield store


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, 35.0),
        ({"statement_timeout": 1.5}, 6.5),
        ({"statement_timeout": 0}, None),
        ({"answer_timeout": 40}, 40.0),
        ({"statement_timeout": 0, "answer_timeout": 7}, 7.0),
        ({"answer_timeout": 0}, None),
    ],
)
def test_what_the_settings_say(database_url: str, settings: dict[str, Any], expected: float | None) -> None:
    with Store.open(database_url, **settings) as store:
        assert limit(store) == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("-c statement_timeout=0", None),
        ("-c statement_timeout=90s", 95.0),
        ("--statement-timeout=2min", 125.0),
        ("-c Statement_Timeout=1500", 6.5),
        ("-c lock_timeout=7", 35.0),
    ],
)
def test_what_the_string_says_wins(database_url: str, options: str, expected: float | None) -> None:
    with Store.open(make_conninfo(database_url, options=options)) as store:
        assert limit(store) == expected
    with Store.open(make_conninfo(database_url, options=options), answer_timeout=50) as store:
        assert limit(store) == 50.0


def test_what_the_environment_says(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGOPTIONS", "-c statement_timeout=1h")
    with Store.open(database_url) as store:
        assert limit(store) == 3605.0


def test_behind_pgbouncer_the_server_is_asked(database_url: str) -> None:
    with Store.open(database_url, pgbouncer=True) as store:
        assert limit(store) is None
    with psycopg.connect(database_url, autocommit=True) as admin:
        name = Identifier(admin.info.dbname)
        admin.execute(SQL("ALTER DATABASE {} SET statement_timeout = '45s'").format(name))
    with Store.open(database_url, pgbouncer=True) as store:
        assert limit(store) == 50.0


def test_set_local_holds_until_the_end_of_the_transaction(single: Store) -> None:
    with single.transaction() as tx:
        tx.run(statement("SET LOCAL statement_timeout = '10min'"))
        assert limit_within(tx) == 605.0
        tx.one(SET, value="0", local=True)
        assert limit_within(tx) is None
    assert limit(single) == 35.0


def test_a_savepoint_that_is_rolled_back_may_have_made_it_shorter(single: Store) -> None:
    def work(tx: Transaction) -> None:
        with tx.transaction() as inner:
            inner.one(SET, value="1s", local=True)
            inner.one(DIVIDE, by=0)

    with single.transaction() as tx:
        with pytest.raises(InvalidInput):
            work(tx)
        assert limit_within(tx) == 35.0
    assert limit(single) == 35.0


@pytest.mark.parametrize("ends", ["commit", "rollback"])
def test_set_within_a_transaction(single: Store, ends: str) -> None:
    def work() -> None:
        with single.transaction() as tx:
            tx.one(SET, value="1min", local=False)
            assert limit_within(tx) == 65.0
            if ends == "rollback":
                raise KeyError

    if ends == "rollback":
        with pytest.raises(KeyError):
            work()
    else:
        work()
    assert limit(single) == (65.0 if ends == "commit" else 35.0)


@pytest.mark.parametrize("back", ["RESET statement_timeout", "RESET ALL", "DISCARD  ALL"])
def test_set_for_the_session_and_back(single: Store, back: str) -> None:
    single.run(statement("SET statement_timeout = '3s'"))
    assert limit(single) == 8.0
    single.run(statement(back))
    assert limit(single) == 35.0


def test_a_transaction_that_has_failed_meanwhile(single: Store) -> None:
    def work(tx: Transaction) -> None:
        tx.one(SET, value="10min", local=True)
        tx.one(DIVIDE, by=0)

    with pytest.raises(Exception, match="division by zero"):
        single.transact(work)
    assert limit(single) == 35.0


def test_a_number_holds_whatever_the_session_has(database_url: str) -> None:
    with Store.open(database_url, answer_timeout=50, pool_size=1) as store, store.transaction() as tx:
        tx.one(SET, value="0", local=True)
        assert limit_within(tx) == 50.0


def test_statements_of_the_callers_own(single: Store) -> None:
    connection = single._pool.acquire()
    try:
        run_raw(connection, "SET statement_timeout = '7s'", None)
        assert connection.limit == 12.0
        connection.limit = 0.6
        # Each of them has the limit, and their answers come together.
        run_raw(connection, "SELECT pg_sleep(0.3); SELECT pg_sleep(0.3); SELECT pg_sleep(0.3)", None)
    finally:
        single._pool.release(connection)


def test_the_servers_own_limit_comes_first(database_url: str) -> None:
    with Store.open(database_url, statement_timeout=0.2) as store:
        with pytest.raises(Timeout) as caught:
            store.run(SLEEP, seconds=20.0)
        assert caught.value.sqlstate == "57014"
