"""Statements are prepared once a connection, whatever happens to the connection in between."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rootstream_store.database import Connection, _prepared
from rootstream_store.errors import InvalidInput, QueryError
from rootstream_store.store import Store
from rootstream_store.transaction import Transaction

from .statements import statement
from .waiting import Cancelled

ONE = statement("SELECT 1::bigint AS one", int)
NAMES = statement("SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'rootstream%%'", int)
HALF = statement("SELECT %(a)s::double precision / %(b)s::integer AS half", float)


@pytest.fixture
def single(database_url: str) -> Iterator[Store]:
    """A store with one connection, so that all calls meet on it."""
    with Store.open(database_url, pool_size=1) as store:
        yield store


def test_a_statement_is_prepared_once(single: Store) -> None:
    for _ in range(3):
        assert single.one(ONE) == 1
        assert single.one(NAMES) == 2  # and this one


@pytest.mark.parametrize("in_between", ["DISCARD ALL", "DEALLOCATE ALL"])
def test_what_the_server_has_forgotten_is_prepared_again(single: Store, in_between: str) -> None:
    assert single.one(ONE) == 1
    single.run(statement(in_between))
    assert single.one(ONE) == 1
    assert single.one(ONE) == 1


def test_what_was_forgotten_within_a_transaction(single: Store) -> None:
    """There the error has ended the transaction; the next one goes on."""
    assert single.one(ONE) == 1

    def work(tx: Transaction) -> None:
        tx.run(statement("DEALLOCATE ALL"))
        tx.one(ONE)

    with pytest.raises(QueryError):
        single.transact(work)
    assert single.one(ONE) == 1


def test_a_preparation_that_is_interrupted(single: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server may have it or not: that connection is not used again."""
    wait = _prepared._wait

    def interrupted(connection: Connection) -> None:
        wait(connection)
        raise Cancelled

    monkeypatch.setattr(_prepared, "_wait", interrupted)
    with pytest.raises(Cancelled):
        single.one(ONE)
    monkeypatch.undo()
    assert single.one(ONE) == 1


def test_a_rollback_after_a_batch_leaves_what_is_prepared(single: Store) -> None:
    assert single.one(ONE) == 1
    for _ in range(2):  # prepared by psycopg
        with single.batch() as batch:
            answer = batch.one(ONE)
        assert answer.value == 1
    with pytest.raises(InvalidInput), single.transaction() as tx:
        tx.one(statement("SELECT 1 / 0"))
    with single.transaction() as tx:
        assert tx.one(ONE) == 1
    with single.batch() as batch:
        answer = batch.one(ONE)
    assert answer.value == 1
    single._on_a_connection(lambda connection: connection.execute("DEALLOCATE ALL"))
    with single.batch() as batch:
        answer = batch.one(ONE)
    assert answer.value == 1


def test_a_statement_that_cannot_be_prepared_does_no_harm(single: Store) -> None:
    wrong = statement("SELECT nothing FROM nowhere")
    for _ in range(2):
        with pytest.raises(QueryError):
            single.all(wrong)
    with single.transaction() as tx:
        with pytest.raises(QueryError), tx.transaction() as inner:
            inner.all(wrong)
        assert tx.one(ONE) == 1


def test_numbers_of_every_kind_in_any_order(single: Store) -> None:
    """An integer goes out as int8: taken for a double it would be another number."""
    for a, b, half in ((1, 2, 0.5), (1.0, 2, 0.5), (3, 2, 1.5), (2**52, 1, 2.0**52), (0.5, 1, 0.5)):
        assert single.one(HALF, a=a, b=b) == half


def test_queries_made_at_run_time_do_not_fill_the_server(
    single: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_prepared, "_MOST_PREPARED", 20)
    for number in range(100):
        assert single.one(statement(f"SELECT {number}::bigint AS n", int)) == number
    assert single.one(NAMES) <= 20
