"""A batch: one round trip with the statements that single calls have prepared, applied whole or not."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest
from psycopg.conninfo import make_conninfo
from psycopg.pq.abc import PGresult

from rootstream_store.database import Together, _prepared
from rootstream_store.errors import Conflict, InvalidInput, NotFound, QueryError, RootStreamError
from rootstream_store.queries import Query
from rootstream_store.store import Store

from .statements import ADD, ALL, COPY, COUNT, GET, SET, SLEEP, Item, make_items, statement
from .test_pool import everything_is_there
from .waiting import in_thread, until

PREPARED = statement("SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'rootstream%%'", int)
HALF = statement("SELECT %(a)s::double precision / %(b)s::integer AS half", float)
ECHO = statement("SELECT %(text)s::text AS text", str)
SLEEPING = statement(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
    "AND pid <> pg_backend_pid() AND state = 'active' AND query LIKE '%%pg_sleep%%'",
    int,
)


@pytest.fixture(params=[False, True], ids=["direct", "pgbouncer"])
def items(request: pytest.FixtureRequest, database_url: str) -> Iterator[Store]:
    """A store with one connection, so that all calls meet on it."""
    make_items(database_url)
    with Store.open(database_url, pool_size=1, pgbouncer=request.param) as store:
        yield store
        everything_is_there(store._pool)


@pytest.fixture
def single(database_url: str) -> Iterator[Store]:
    make_items(database_url)
    with Store.open(database_url, pool_size=1) as store:
        yield store
        everything_is_there(store._pool)


def add(store: Store, *names: str) -> None:
    with store.batch() as batch:
        for number, name in enumerate(names):
            batch.one(ADD, id=number, name=name)


def test_answers_of_every_kind_in_order(items: Store) -> None:
    with items.batch() as batch:
        added = [batch.one(ADD, id=number, name=str(number)) for number in range(3)]
        changed = batch.run(SET, id=1, name="b")
        nobody = batch.maybe(GET, id=9)
        everybody = batch.all(ALL)
        halves = [batch.one(HALF, a=a, b=b) for a, b in ((1, 2), (3.5, 7), (2**40, 2))]
    assert [answer.value.id for answer in added] == [0, 1, 2]
    assert changed.value == 1
    assert nobody.value is None
    assert [item.name for item in everybody.value] == ["0", "b", "2"]
    assert [half.value for half in halves] == [0.5, 0.5, 2**39]


def test_no_rows_and_rows_that_nobody_reads(items: Store) -> None:
    with items.batch() as batch:
        nothing = batch.all(SET, id=1, name="b")
        counted = batch.run(ALL)
        missing = batch.one(GET, id=1)
        unread = batch.run(statement("SELECT timestamptz 'infinity'"))
    assert (nothing.value, counted.value, unread.value) == ([], 0, 1)
    with pytest.raises(NotFound):
        _ = missing.value


def test_statements_are_those_of_single_calls(single: Store) -> None:
    single.one(ADD, id=100, name="alone")
    before = single.one(PREPARED)
    add(single, "a", "b", "c")
    assert single.one(PREPARED) == before
    with single.batch() as batch:
        batch.one(COUNT)
        batch.one(COUNT)
    assert single.one(PREPARED) == before + 1
    assert single.one(COUNT) == 4
    assert single.one(PREPARED) == before + 1


def test_behind_pgbouncer_nothing_is_prepared(database_url: str) -> None:
    make_items(database_url)
    with Store.open(database_url, pool_size=1, pgbouncer=True) as store:
        add(store, "a", "b")
        assert store.one(statement("SELECT count(*) FROM pg_prepared_statements", int)) == 0


@pytest.mark.parametrize("in_transaction", [False, True])
@pytest.mark.parametrize("said", ["DISCARD ALL", "DEALLOCATE ALL"])
def test_what_the_server_has_forgotten_is_prepared_again(
    single: Store, said: str, in_transaction: bool
) -> None:
    add(single, "a")
    single.run(statement(said))
    if in_transaction:
        with single.transaction() as tx, tx.batch() as batch:
            changed = batch.run(SET, id=0, name="b")
            added = batch.one(ADD, id=1, name="c")
    else:
        with single.batch() as batch:
            changed = batch.run(SET, id=0, name="b")
            added = batch.one(ADD, id=1, name="c")
    assert (changed.value, added.value) == (1, Item(id=1, name="c"))
    assert [item.name for item in single.all(ALL)] == ["b", "c"]


def test_one_that_was_forgotten_and_one_that_is_there(single: Store) -> None:
    single.one(COUNT)
    single.one(ADD, id=0, name="a")
    name = ADD.statement_name.decode()
    single.run(statement(f"DEALLOCATE {name}"))
    for _ in range(2):
        with single.batch() as batch:
            batch.one(ADD, id=1, name="b")
            count = batch.one(COUNT)
        assert count.value == 2
        single.run(statement("DELETE FROM items WHERE id = 1"))


def test_a_batch_that_forgets_its_own_statements(single: Store) -> None:
    def work() -> None:
        with single.batch() as batch:
            batch.one(ADD, id=1, name="a")
            batch.run(statement("DEALLOCATE ALL"))
            batch.one(ADD, id=2, name="b")

    with pytest.raises(QueryError):
        work()
    assert single.one(COUNT) == 0


def test_queries_made_at_run_time_do_not_fill_the_server(
    single: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_prepared, "_MOST_PREPARED", 5)
    for round_ in range(3):
        with single.batch() as batch:
            answers = [
                batch.one(statement(f"SELECT {number}::bigint", int))
                for number in range(4 * round_, 4 * round_ + 4)
            ]
        assert [answer.value for answer in answers] == list(range(4 * round_, 4 * round_ + 4))
        assert single.one(PREPARED) <= 6


def test_more_than_all_buffers_hold(items: Store) -> None:
    """In both directions at once: neither side may wait for the other to read first."""
    texts = [str(number) * 200_000 for number in range(10, 60)]
    with items.batch() as batch:
        answers = [batch.one(ECHO, text=text) for text in texts]
    assert [answer.value for answer in answers] == texts


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_value_that_cannot_be_sent_names_its_statement(items: Store, place: int) -> None:
    queries = [ADD, ADD, ADD]
    queries[place] = Query(
        "items/wrong", "INSERT INTO items (id, name) VALUES (%(id)s::bigint, %(name)s::text)", None
    )

    def work() -> None:
        with items.batch() as batch:
            for number, query in enumerate(queries):
                batch.run(query, id=number, name="a\0b" if number == place else str(number))

    with pytest.raises(InvalidInput) as caught:
        work()
    assert caught.value.query == "sql/items/wrong.sql"
    assert items.one(COUNT) == 0


def test_a_copy_is_no_statement_for_a_batch(items: Store) -> None:
    def work() -> None:
        with items.batch() as batch:
            batch.one(ADD, id=1, name="a")
            batch.run(COPY)

    with pytest.raises(RootStreamError):
        work()
    assert items.one(COUNT) == 0


def test_a_batch_in_a_transaction_that_has_failed(items: Store) -> None:
    def work() -> None:
        with items.transaction() as tx:
            with pytest.raises(InvalidInput):
                tx.one(ADD, id=1, name="bad")
            with pytest.raises(Conflict), tx.batch() as batch:
                batch.one(COUNT)

    with pytest.raises(Conflict, match="rolled back"):
        work()


def test_a_batch_inside_savepoints(items: Store) -> None:
    with items.transaction() as tx:
        for number in range(3):
            with tx.transaction() as inner, inner.batch() as batch:
                batch.one(ADD, id=number, name=str(number))
    assert items.one(COUNT) == 3


def test_a_batch_may_take_longer_than_one_statement(database_url: str) -> None:
    """The limit of an answer is that of each statement."""
    with Store.open(database_url, pool_size=1, statement_timeout=0, answer_timeout=1) as store:
        with store.batch() as batch:
            for _ in range(3):
                batch.run(SLEEP, seconds=0.5)
        with pytest.raises(RootStreamError, match="did not answer within 1 s"), store.batch() as batch:
            batch.run(SLEEP, seconds=5.0)


def test_a_batch_that_raises_its_own_limit(database_url: str) -> None:
    with Store.open(database_url, pool_size=1) as store, store.transaction() as tx:
        with tx.batch() as batch:
            batch.run(statement("SET LOCAL statement_timeout = '2min'"))
        assert tx._connection.limit == 125.0


def test_ctrl_c_during_a_batch(items: Store, database_url: str) -> None:
    main = threading.main_thread().ident
    assert main is not None

    def press() -> None:
        until(lambda: other.one(SLEEPING) == 1, "the sleep has begun")
        signal.pthread_kill(main, signal.SIGINT)

    def work() -> None:
        with items.batch() as batch:
            batch.one(ADD, id=1, name="a")
            batch.run(SLEEP, seconds=30.0)

    with Store.open(make_conninfo(database_url), pool_size=1) as other:
        thread = in_thread(press)
        with pytest.raises(KeyboardInterrupt):
            work()
        thread.join()
        until(lambda: other.one(SLEEPING) == 0, "the server was told")
    assert items.one(COUNT) == 0


def test_ctrl_c_between_two_waits_of_a_batch(
    items: Store, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def press(_: Together) -> PGresult:
        until(lambda: other.one(SLEEPING) == 1, "the sleep has begun")
        raise KeyboardInterrupt

    def work() -> None:
        with items.batch() as batch:
            batch.one(ADD, id=1, name="a")
            batch.run(SLEEP, seconds=60.0)

    with Store.open(make_conninfo(database_url), pool_size=1) as other:
        with monkeypatch.context() as patch:
            patch.setattr(Together, "_next", press)
            with pytest.raises(KeyboardInterrupt):
                work()
        until(lambda: other.one(SLEEPING) == 0, "the server was told")
    assert items.one(COUNT) == 0
