"""The order of the whole log: a bare sequence loses events, transaction ids stall and invert, the horizon
does neither.

Each interleaving is made by hand, with open transactions, so that nothing is left to chance; the same checker
judges the three ways to read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest

from rootstream_store import events
from rootstream_store.store import Store

from ..waiting import until
from .strategies import STRATEGIES, Reader, Seen, judge

Connection = psycopg.Connection[Any]
Open = Callable[[], Connection]

INSERT = """
    INSERT INTO event_log (aggregate_id, aggregate_type, version, event_type, event_data)
    VALUES (%s, 'T', %s, 'E', '{}') RETURNING position, aggregate_id, version
"""


@pytest.fixture
def opened(database_url: str) -> Iterator[Open]:
    """Makes connections, each of which begins a transaction with its first statement."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(psycopg.connect(database_url))


def reader(kind: str, store: Store, connection: Connection) -> Reader:
    return STRATEGIES[kind](store, connection)


def write(connection: Connection, aggregate: str, version: int) -> Seen:
    row = connection.execute(INSERT, [aggregate, version]).fetchone()
    assert row is not None
    return Seen(*row)


EXPECTED_OVERTAKEN = {"bare": ["lost"], "xmin": [], "horizon": []}


@pytest.mark.parametrize("kind", STRATEGIES)
def test_a_later_position_is_committed_first(
    kind: str, store: Store, connection: Connection, opened: Open
) -> None:
    """The first writer draws 1 and waits; the second draws 2 and commits; a reader looks; the first
    commits."""
    first, second = opened(), opened()
    reading = reader(kind, store, connection)
    committed = [write(first, "a", 1), write(second, "b", 1)]
    second.commit()
    reading.poll()
    first.commit()
    reading.poll()
    reading.poll()
    assert judge(reading.received, committed) == EXPECTED_OVERTAKEN[kind]


EXPECTED_INVERTED = {"bare": [], "xmin": ["inverted", "backwards"], "horizon": []}


@pytest.mark.parametrize("kind", STRATEGIES)
def test_a_transaction_that_began_early_appends_late(
    kind: str, store: Store, connection: Connection, opened: Open
) -> None:
    """The first transaction writes something else, and so has the lower id; the second appends version 1 and
    commits; the first appends version 2 of the same aggregate and commits."""
    first, second = opened(), opened()
    reading = reader(kind, store, connection)
    first.execute("INSERT INTO aggregates (aggregate_id, aggregate_type, version) VALUES ('z', 'Z', 1)")
    committed = [write(second, "a", 1)]
    second.commit()
    committed.append(write(first, "a", 2))
    first.commit()
    reading.poll()
    reading.poll()
    assert judge(reading.received, committed) == EXPECTED_INVERTED[kind]


EXPECTED_STALLED = {"bare": 0, "xmin": 20, "horizon": 0}


@pytest.mark.parametrize("kind", STRATEGIES)
def test_an_unrelated_transaction_stays_open(
    kind: str, store: Store, connection: Connection, opened: Open
) -> None:
    """A transaction that has written elsewhere, a report or a migration, stays open while events are
    appended."""
    other, writer = opened(), opened()
    other.execute("INSERT INTO aggregates (aggregate_id, aggregate_type, version) VALUES ('z', 'Z', 1)")
    reading = reader(kind, store, connection)
    committed = []
    for version in range(1, 21):
        committed.append(write(writer, "a", version))
        writer.commit()
        reading.poll()
    assert len(committed) - len(reading.received) == EXPECTED_STALLED[kind], "events held back"
    other.commit()
    until(lambda: reading.poll() or len(reading.received) == 20)
    assert judge(reading.received, committed) == []


EXPECTED_ALL = {
    "bare": ["lost"],
    "xmin": ["inverted", "backwards"],
    "horizon": [],
}


@pytest.mark.parametrize("kind", STRATEGIES)
def test_all_of_it_together_with_rollbacks_and_savepoints(
    kind: str, store: Store, connection: Connection, opened: Open
) -> None:
    """One interleaving in which each of the other two ways goes wrong, and the horizon does not."""
    early, open_, quick, lost = opened(), opened(), opened(), opened()
    reading = reader(kind, store, connection)
    early.execute("INSERT INTO aggregates (aggregate_id, aggregate_type, version) VALUES ('z', 'Z', 1)")
    committed = [write(open_, "a", 1)]  # 1: stays open
    write(lost, "x", 1)  # 2: rolled back
    committed.append(write(quick, "b", 1))  # 3
    quick.commit()
    reading.poll()
    with open_.transaction(force_rollback=True):
        write(open_, "c", 1)  # 4: rolled back to a savepoint
    committed.append(write(open_, "a", 2))
    lost.rollback()
    open_.commit()
    reading.poll()
    committed.append(write(early, "b", 2))
    early.commit()
    committed.append(write(quick, "b", 3))
    quick.commit()
    for _ in range(3):
        reading.poll()
    assert judge(reading.received, committed) == EXPECTED_ALL[kind]


def test_the_horizon_inside_the_reading_statement_would_lose_events(
    store: Store, connection: Connection, opened: Open
) -> None:
    """Why it takes two statements. The snapshot of the one is older than the locks that it looks at: held
    open between the two, it does not show what was committed meanwhile."""
    writer, snapshot = opened(), opened()
    snapshot.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    write(writer, "a", 1)
    snapshot.execute("SELECT 1 FROM event_log")
    writer.commit()
    look = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 'event_log'::regclass"
    assert snapshot.execute(look).fetchone() == (0,), "nobody is in the way"
    assert snapshot.execute("SELECT count(*) FROM event_log").fetchone() == (0,), "and yet it is not seen"
    assert connection.execute("SELECT count(*) FROM event_log").fetchone() == (1,)


def test_a_session_that_replicates_holds_readers_back_too(
    store: Store, connection: Connection, opened: Open
) -> None:
    """Triggers are off for it, but for this one."""
    replica, quick = opened(), opened()
    replica.execute("SET session_replication_role = replica")
    replica.commit()
    write(replica, "a", 1)
    write(quick, "b", 1)
    quick.commit()
    assert events.read_all(store) == []
    replica.commit()
    assert [event.aggregate_id for event in events.read_all(store)] == ["a", "b"]


@pytest.mark.parametrize(
    ("received", "faults"),
    [
        ([], ["lost"]),
        ([(1, "a", 1), (2, "a", 2), (3, "b", 1)], []),
        ([(1, "a", 1), (3, "b", 1)], ["lost"]),
        ([(1, "a", 1), (2, "a", 2), (3, "b", 1), (3, "b", 1)], ["doubled", "inverted"]),
        ([(2, "a", 2), (1, "a", 1), (3, "b", 1)], ["inverted", "backwards"]),
        ([(1, "a", 1), (2, "a", 2), (3, "b", 1), (4, "c", 1)], ["phantom"]),
    ],
)
def test_the_checker_finds_each_fault(received: list[tuple[int, str, int]], faults: list[str]) -> None:
    committed = [Seen(1, "a", 1), Seen(2, "a", 2), Seen(3, "b", 1)]
    assert judge([Seen(*one) for one in received], committed) == faults
