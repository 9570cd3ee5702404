"""A statement of the store is committed by itself, and the server answers with its rows before it commits:
what the commit meets comes after them."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from rootstream_store import events
from rootstream_store.errors import Conflict, RootStreamError
from rootstream_store.events import AggregateEvents, NewEvent
from rootstream_store.store import Store

from .statements import statement

REFUSE = """
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'refused at the commit'; END $$;
    CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON event_log
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse();
"""


@pytest.mark.parametrize(
    "append",
    [
        lambda store: events.append(store, "Stream", "a", "E", {}),
        lambda store: events.append_many(store, "Stream", "a", [NewEvent("E", {})]),
        lambda store: events.append_together(store, [AggregateEvents("Stream", "a", [NewEvent("E", {})])]),
    ],
)
def test_a_commit_that_is_refused_is_no_success(store: Store, database_url: str, append: Any) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(REFUSE)
    for _ in range(2):
        with pytest.raises(RootStreamError, match="refused at the commit"):
            append(store)
    assert events.read_all(store) == []
    assert events.get_version(store, "Stream", "a") == 0


def test_a_serialization_failure_at_the_commit_is_tried_again(database_url: str) -> None:
    """Two transactions that each read what the other writes: the one that commits last must give way."""
    url = make_conninfo(database_url, options="-c default_transaction_isolation=serializable")
    skewed = statement(
        "WITH written AS (INSERT INTO pair_b VALUES (1) RETURNING x), "
        "seen AS MATERIALIZED (SELECT count(*) AS n FROM pair_a), "
        "waited AS MATERIALIZED (SELECT pg_advisory_xact_lock_shared(7)::text AS done FROM seen) "
        "SELECT (SELECT n FROM seen) + length((SELECT done FROM waited)) AS n FROM written",
        int,
    )
    with (
        psycopg.connect(url) as other,
        psycopg.connect(database_url, autocommit=True) as gate,
        Store.open(url, retry_deadline=0) as strict,
        Store.open(url) as patient,
    ):
        gate.execute("CREATE TABLE pair_a (x int); CREATE TABLE pair_b (x int)")
        for store in (strict, patient):
            gate.execute("SELECT pg_advisory_lock(7)")
            other.execute("SELECT count(*) FROM pair_b")
            answers: list[Any] = []

            def ask(store: Store = store, answers: list[Any] = answers) -> None:
                try:
                    answers.append(store.one(skewed))
                except Conflict as error:
                    answers.append(error)

            thread = threading.Thread(target=ask)
            thread.start()
            waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            while gate.execute(waiting).fetchone() == (0,):
                assert thread.is_alive()
            other.execute("INSERT INTO pair_a VALUES (1)")
            other.commit()
            gate.execute("SELECT pg_advisory_unlock(7)")
            thread.join(20)
            if store is strict:
                assert isinstance(answers[0], Conflict)
                assert answers[0].sqlstate == "40001"
                assert gate.execute("SELECT count(*) FROM pair_b").fetchone() == (0,)
            else:
                assert answers == [2]
                assert gate.execute("SELECT count(*) FROM pair_b").fetchone() == (1,)
