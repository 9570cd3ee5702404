"""Events, from rows of C."""

from __future__ import annotations

from uuid import UUID

from rootstream_store import events
from rootstream_store.capi._entry import to_json
from rootstream_store.db import Db
from rootstream_store.events import Expected, NewEvent
from rootstream_store.records import Appended, Event, Snapshot

__all__ = ["append", "append_many", "get", "load_snapshot"]

_Row = tuple[str, bytes, bytes | None, int | None, UUID | None, str | None, str | None]
"""In the order of rss_new_event."""


def append(db: Db, aggregate_type: str, aggregate_id: str, row: _Row, expected: int | Expected) -> Appended:
    """As events.append."""
    event_type, data, metadata, user_id, event_id, correlation_id, causation_id = row
    return events.append(
        db,
        aggregate_type,
        aggregate_id,
        event_type,
        data,
        expected=expected,
        metadata=metadata,
        user_id=user_id,
        event_id=event_id,
        correlation_id=correlation_id,
        causation_id=causation_id,
    )


def append_many(
    db: Db, aggregate_type: str, aggregate_id: str, rows: list[_Row], expected: int | Expected
) -> Appended | None:
    """As events.append_many; the last one, None without any."""
    given = [NewEvent(*row) for row in rows]
    appended = events.append_many(db, aggregate_type, aggregate_id, given, expected=expected)
    return appended[-1] if appended else None


def get(db: Db, aggregate_type: str, aggregate_id: str, version: int) -> list[Event]:
    """As events.get."""
    return [events.get(db, aggregate_type, aggregate_id, version)]


def load_snapshot(
    db: Db, aggregate_type: str, aggregate_id: str, schema_version: int, to_version: int | None
) -> tuple[Snapshot, bytes] | None:
    """As events.load_snapshot; the state apart, as JSON."""
    found = events.load_snapshot(
        db, aggregate_type, aggregate_id, schema_version=schema_version, to_version=to_version
    )
    return None if found is None else (found, to_json(found.state))
