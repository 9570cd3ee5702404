"""What the tests of subscriptions share: a table that handlers write to, and events to read."""

from __future__ import annotations

from typing import Any

import psycopg

from rootstream_store import events
from rootstream_store.db import Db
from rootstream_store.events import NewEvent
from rootstream_store.records import Event

from ..statements import statement

__all__ = ["BACKEND", "NOTE", "append_some", "make_seen", "note", "seen", "seen_versions"]

NOTE = statement(
    "INSERT INTO seen (reader, position, aggregate, version) VALUES "
    "(%(reader)s::text, %(position)s::bigint, %(aggregate)s::text, %(version)s::bigint)",
    None,
    "seen/note",
)
BACKEND = statement("SELECT pg_backend_pid()", int, "seen/backend")


def make_seen(connection: psycopg.Connection[Any]) -> None:
    """A table of what each reader has seen, in the order in which it saw it; seeing twice is no error of the
    table's, so that a test finds it."""
    connection.execute(
        "CREATE TABLE seen (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, reader text, "
        "position bigint, aggregate text, version bigint)"
    )


def note(tx: Db, event: Event, reader: str = "r") -> None:
    """What a handler of the tests does: a row for the event."""
    tx.run(NOTE, reader=reader, position=event.position, aggregate=event.aggregate_id, version=event.version)


def seen(connection: psycopg.Connection[Any], reader: str = "r") -> list[int]:
    """Positions in the order in which they were seen."""
    found = connection.execute("SELECT position FROM seen WHERE reader = %s ORDER BY id", [reader])
    return [position for (position,) in found.fetchall()]


def seen_versions(connection: psycopg.Connection[Any], reader: str = "r") -> dict[str, list[int]]:
    """Versions in the order in which they were seen, by aggregate."""
    versions: dict[str, list[int]] = {}
    found = connection.execute("SELECT aggregate, version FROM seen WHERE reader = %s ORDER BY id", [reader])
    for aggregate, version in found.fetchall():
        versions.setdefault(aggregate, []).append(version)
    return versions


def append_some(db: Db, count: int, aggregate: str = "a", event_type: str = "E") -> list[int]:
    """Appends events in one statement and returns their positions."""
    new = [NewEvent(event_type, {"n": number}) for number in range(count)]
    return [appended.position for appended in events.append_many(db, "T", aggregate, new)]
