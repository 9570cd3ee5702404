"""The recorders of the package eventsourcing (not a dependency), loaded with the same events."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

import psycopg
from psycopg.conninfo import conninfo_to_dict

from ._logs import AGGREGATES, FILLED_VERSION, TEXT

__all__ = ["Recorder", "originator", "recorder"]

_STATE = TEXT.encode()


def _importable(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


_postgres = _importable("eventsourcing.postgres")
_persistence = _importable("eventsourcing.persistence")


def originator(aggregate_id: str | int) -> UUID:
    """The id of that aggregate there, a UUID."""
    return UUID(int=int(aggregate_id))


class Recorder:
    """A recorder, and the calls that are compared."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.conflict: type[Exception] = _persistence.IntegrityError

    def append(self, aggregate_id: str, versions: Sequence[int]) -> None:
        """Events of these versions, in one transaction. Raises `conflict`."""
        name = originator(aggregate_id)
        self.inner.insert_events(
            [_persistence.StoredEvent(name, version, "bench:ViewerJoined", _STATE) for version in versions]
        )

    def last_version(self, aggregate_id: str) -> int:
        """As its repository finds out: the last event is read."""
        found = self.inner.select_events(originator(aggregate_id), desc=True, limit=1)
        return found[0].originator_version if found else 0


@contextlib.contextmanager
def recorder(database_url: str, *, ordered: bool = True, pool_size: int = 1) -> Iterator[Recorder | None]:
    """In that database; None where the package is missing. `ordered`: its ApplicationRecorder, whose log can
    be followed as a whole, else its AggregateRecorder."""
    if _postgres is None:
        yield None
        return
    given = conninfo_to_dict(database_url)
    datastore = _postgres.PostgresDatastore(
        dbname=given["dbname"],
        host=given.get("host", ""),
        port=given.get("port", "5432"),
        user=given.get("user", ""),
        password=given.get("password", ""),
        pool_size=pool_size,
    )
    kind = _postgres.PostgresApplicationRecorder if ordered else _postgres.PostgresAggregateRecorder
    made = kind(datastore, events_table_name="stored_events")
    try:
        made.create_table()
        with psycopg.connect(database_url, autocommit=True) as connection:
            with connection.cursor().copy(
                "COPY stored_events (originator_id, originator_version, topic, state) FROM STDIN"
            ) as copy:
                for version in range(1, FILLED_VERSION + 1):
                    for number in range(1, AGGREGATES + 1):
                        copy.write_row((originator(number), version, "bench:ViewerJoined", _STATE))
            connection.execute("VACUUM ANALYZE stored_events")
        yield Recorder(made)
    finally:
        datastore.close()
