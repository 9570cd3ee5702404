"""The events that all begin with, and tables of other makes with the same ones."""

from __future__ import annotations

import itertools
import random
from typing import Final

import msgspec
import psycopg
from psycopg.sql import SQL, Identifier
from uuid_utils.compat import uuid7

__all__ = [
    "AGGREGATES",
    "DATA",
    "FILLED_VERSION",
    "INSERT",
    "TEXT",
    "Cursor",
    "Naive",
    "create_bare_table",
    "load_log",
    "make_row",
]

AGGREGATES: Final = 2_000
FILLED_VERSION: Final = 10
"""Of each of these aggregates at the beginning."""

DATA: Final = {
    "quality": "1080p60",
    "codec": "h264",
    "bitrate_kbps": 6000,
    "viewers": 150,
    "region": "eu-west-1",
    "encoder": "obs 31.0.2 on pc",
}
TEXT: Final = msgspec.json.encode(DATA).decode()
assert len(TEXT) == 120, len(TEXT)

INSERT: Final = SQL(
    "INSERT INTO {} (aggregate_id, aggregate_type, version, event_type, event_id, event_data, user_id) "
    "VALUES (%s, %s, %s, %s, %s, %s, %s)"
)

# As they come in: those of one aggregate lie among those of the others.
_LOAD = (
    """
    INSERT INTO aggregates (aggregate_id, aggregate_type, version)
    SELECT n::text, 'stream', %(versions)s
    FROM generate_series(1, %(aggregates)s) AS n
    """,
    """
    INSERT INTO event_log (aggregate_id, aggregate_type, version, event_type, event_data, user_id)
    SELECT
        (1 + n %% %(aggregates)s)::text,
        'stream',
        1 + n / %(aggregates)s,
        'ViewerJoined',
        %(text)s::jsonb,
        1 + n %% 500
    FROM generate_series(0, %(aggregates)s * %(versions)s - 1) AS n
    ORDER BY n
    """,
    "VACUUM ANALYZE",
)

# What a hand-made log has: the columns, the same indexes, no trigger and no head row.
_BARE = """
CREATE TABLE {table} (
    position bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    version bigint NOT NULL,
    timestamp timestamptz NOT NULL DEFAULT clock_timestamp(),
    user_id bigint,
    event_id uuid NOT NULL,
    aggregate_id text NOT NULL,
    aggregate_type text NOT NULL,
    event_type text NOT NULL,
    event_data jsonb NOT NULL,
    metadata jsonb,
    PRIMARY KEY (aggregate_id, aggregate_type, version)
)
"""
_COPY_OF_LOG = SQL(
    """
    INSERT INTO {} (aggregate_id, aggregate_type, version, event_type, event_id, event_data, user_id)
    SELECT aggregate_id, aggregate_type, version, event_type, event_id, event_data, user_id
    FROM event_log
    ORDER BY position
    """
)


def load_log(database_url: str) -> None:
    """Fills the event log of a migrated database."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        cursor = psycopg.ClientCursor(connection)
        for statement in _LOAD:
            cursor.execute(statement, {"aggregates": AGGREGATES, "versions": FILLED_VERSION, "text": TEXT})


def create_bare_table(connection: psycopg.Connection, name: str, *, unique: bool = True) -> None:
    """A hand-made log with the events of event_log. `unique` False: with a plain index."""
    table = Identifier(name)
    connection.execute(SQL(_BARE).format(table=table))
    if not unique:
        connection.execute(SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(table, Identifier(f"{name}_pkey")))
        connection.execute(SQL("CREATE INDEX ON {} (aggregate_id, aggregate_type, version)").format(table))
    connection.execute(SQL("CREATE INDEX ON {} (position)").format(table))
    connection.execute(SQL("CREATE INDEX ON {} (user_id, position) WHERE user_id IS NOT NULL").format(table))
    connection.execute(_COPY_OF_LOG.format(table))
    connection.execute(SQL("VACUUM ANALYZE {}").format(table))


def make_row(aggregate_id: str, version: int) -> tuple[object, ...]:
    """The parameters of INSERT."""
    return (aggregate_id, "stream", version, "ViewerJoined", uuid7(), TEXT, 7)


class Cursor:
    """Goes round the aggregates in an order of its own, and knows the version of each."""

    def __init__(self, first: int = 1, count: int = AGGREGATES) -> None:
        ids = [str(number) for number in range(first, first + count)]
        random.shuffle(ids)
        self._ids = itertools.cycle(ids)
        self.versions = dict.fromkeys(ids, FILLED_VERSION)

    def next(self) -> tuple[str, int]:
        """The next aggregate and the version that it is at."""
        aggregate_id = next(self._ids)
        return aggregate_id, self.versions[aggregate_id]


class Naive:
    """What one writes first: look for the last version, insert the next one, commit."""

    def __init__(self, connection: psycopg.Connection, table: str) -> None:
        self._connection = connection
        self._find = SQL(
            "SELECT coalesce(max(version), 0) FROM {} WHERE aggregate_id = %s AND aggregate_type = %s"
        ).format(Identifier(table))
        self._insert = INSERT.format(Identifier(table))

    def append(self, aggregate_id: str) -> None:
        """One event, in a transaction."""
        with self._connection.transaction():
            found = self._connection.execute(self._find, (aggregate_id, "stream")).fetchone()
            assert found is not None
            self._connection.execute(self._insert, make_row(aggregate_id, found[0] + 1))
