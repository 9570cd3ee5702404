"""Latency while the log grows, and the bytes that an event takes on disk.

At each size 1,000 aggregates and 500 users are active, those that came last, as in a service that runs for
years: the others have ended. What is touched is cached.
"""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Callable, Iterator
from typing import Final

import psycopg

from rootstream_store import Store, events

from .._harness import Call, Figures
from ._bench import Bench
from ._logs import DATA, TEXT

__all__ = ["run"]

_ACTIVE: Final = 1_000
_VERSIONS: Final = 10
"""Events of each aggregate."""

_FILL = (
    """
    INSERT INTO aggregates (aggregate_id, aggregate_type, version)
    SELECT n::text, 'stream', %(versions)s
    FROM generate_series(0, %(events)s / %(versions)s - 1) AS n
    """,
    # As they come in: the events of one aggregate lie among those of the others that are active then.
    """
    INSERT INTO event_log (aggregate_id, aggregate_type, version, event_type, event_data, user_id)
    SELECT
        (n / %(block)s * %(active)s + n %% %(active)s)::text,
        'stream',
        1 + n %% %(block)s / %(active)s,
        'ViewerJoined',
        %(text)s::jsonb,
        1 + n / %(block)s * 500 + n %% 500
    FROM generate_series(0, %(events)s - 1) AS n
    """,
    # One for each hundred events.
    """
    INSERT INTO snapshots (aggregate_id, aggregate_type, version, position, schema_version, state)
    SELECT aggregate_id, aggregate_type, version, position, 1, event_data
    FROM event_log
    WHERE position %% 100 = 0
    """,
    "VACUUM ANALYZE",
    "CHECKPOINT",
)

_SIZES_ON_DISK = """
SELECT 'event_log: heap', pg_relation_size('event_log')
UNION ALL
SELECT 'event_log: ' || relname, pg_relation_size(indexrelid)
FROM pg_index
INNER JOIN pg_class ON pg_class.oid = indexrelid
WHERE indrelid = 'event_log'::regclass
UNION ALL
SELECT
    'event_log: TOAST, maps',
    pg_total_relation_size('event_log') - pg_relation_size('event_log') - (
        SELECT sum(pg_relation_size(indexrelid)) FROM pg_index WHERE indrelid = 'event_log'::regclass
    )
"""
_OF_DATA = "SELECT avg(pg_column_size(event_data)) FROM event_log WHERE position <= 1000"
_OF_OTHERS = "SELECT pg_total_relation_size('aggregates'), pg_total_relation_size('snapshots')"


def run(bench: Bench) -> None:
    """A table for each operation, one of the disk, and the targets."""
    with contextlib.ExitStack() as stack:
        logs = []
        for size in bench.sizes:
            url = bench.database(loaded=False)
            _fill(url, size)
            logs.append(_Log(stack.enter_context(Store.open(url, pool_size=1)), size))
        # Before anything is appended.
        _disk(bench, logs[-1])
        for log in logs:
            log.warm_up()
        smallest, largest = f"{bench.sizes[0]:,}", f"{bench.sizes[-1]:,}"
        for title, wanted, pick in _OPERATIONS:
            calls = {f"{log.size:,}": pick(log) for log in logs}
            figures = bench.calls(f"{title}, by events in the log", calls, smallest, rounds=24, calls=20)
            if wanted:
                bench.target(f"{title} at {largest} events beside {smallest}", 1.3, figures[largest]["ratio"])


class _Log:
    def __init__(self, store: Store, size: int) -> None:
        self.store = store
        self.size = size
        aggregates = size // _VERSIONS
        self._active = [str(number) for number in range(max(0, aggregates - _ACTIVE), aggregates)]
        self._last = events.get_horizon(store).position
        self._any = [str(random.randrange(aggregates)) for _ in range(100)]
        self._places = [random.randrange(size - 1000) for _ in range(10)]
        random.shuffle(self._active)

    def warm_up(self) -> None:
        append, read = self.append(), self.read_active()
        for _ in range(_ACTIVE):
            read()
        for _ in range(_ACTIVE // 4):
            append()
        for call, times in ((self.read_any(), 100), (self.newest_page(), 3), (self.any_page(), 10)):
            for _ in range(times):
                call()

    def append(self) -> Call:
        ids = itertools.cycle(self._active)
        users = itertools.cycle(range(1 + self.size // 20 - 500, 1 + self.size // 20))
        return lambda: events.append(
            self.store, "stream", next(ids), "ViewerJoined", DATA, user_id=next(users)
        )

    def read_active(self) -> Call:
        return self._tail(itertools.cycle(self._active))

    def read_any(self) -> Call:
        return self._tail(itertools.cycle(self._any))

    def newest_page(self) -> Call:
        return lambda: events.read_all(self.store, after_position=self._last - 1000)

    def any_page(self) -> Call:
        places = itertools.cycle(self._places)
        return lambda: events.read_all(self.store, after_position=next(places))

    def _tail(self, ids: Iterator[str]) -> Call:
        return lambda: events.read(self.store, "stream", next(ids), limit=10, backward=True)


_OPERATIONS: Final[tuple[tuple[str, bool, Callable[[_Log], Call]], ...]] = (
    ("append", True, _Log.append),
    ("the last 10 events of an active aggregate", True, _Log.read_active),
    ("the last 10 events of any aggregate", False, _Log.read_any),
    ("a page of 1,000 at the end", True, _Log.newest_page),
    ("a page of 1,000 anywhere", False, _Log.any_page),
)


def _fill(url: str, size: int) -> None:
    values = {
        "events": size,
        "active": _ACTIVE,
        "versions": _VERSIONS,
        "block": _ACTIVE * _VERSIONS,
        "text": TEXT,
    }
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = psycopg.ClientCursor(connection)
        for statement in _FILL:
            cursor.execute(statement, values)


def _disk(bench: Bench, log: _Log) -> None:
    with psycopg.connect(log.store.settings.database_url) as connection:
        parts: dict[str, int] = dict(connection.execute(_SIZES_ON_DISK).fetchall())
        others = connection.execute(_OF_OTHERS).fetchone()
        data = connection.execute(_OF_DATA).fetchone()
    assert others is not None
    assert data is not None
    total = sum(parts.values())
    parts["event_log: all"] = total
    parts[f"aggregates, one for {_VERSIONS} events"] = others[0]
    parts["snapshots, one for 100 events"] = others[1]
    parts["all"] = total + sum(others)
    figures: Figures = {name: {"bytes": float(size) / log.size} for name, size in parts.items()}
    figures = {"event_data alone, as jsonb": {"bytes": float(data[0])}, **figures}
    bench.table(
        f"bytes an event on disk, {len(TEXT)} bytes of JSON, {log.size:,} events",
        figures,
        {"bytes": ("bytes", ".1f")},
    )
    bench.target("an event on disk with all indexes", 350, figures["event_log: all"]["bytes"], "bytes")
