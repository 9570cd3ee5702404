"""Usage, from rows of C."""

from __future__ import annotations

from datetime import datetime

from rootstream_store.db import Db
from rootstream_store.repositories import usage
from rootstream_store.repositories.usage import UsageEntry

__all__ = ["log_many"]

_Row = tuple[int, str, int | None, int, int, datetime | None]


def log_many(db: Db, rows: list[_Row]) -> None:
    """As usage.log_many; each row in the order of rss_usage_entry."""
    usage.log_many(
        db,
        [
            UsageEntry(
                user_id=user_id,
                event_type=event_type,
                stream_id=stream_id,
                bytes_transferred=bytes_transferred,
                duration_seconds=duration_seconds,
                created_at=created_at,
            )
            for user_id, event_type, stream_id, bytes_transferred, duration_seconds, created_at in rows
        ],
    )
