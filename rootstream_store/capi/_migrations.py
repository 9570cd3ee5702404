"""Migrations."""

from __future__ import annotations

from rootstream_store import migrations
from rootstream_store.capi._entry import to_json
from rootstream_store.store import Store

__all__ = ["apply", "status"]


def apply(store: Store, path: str | None, line: str | None) -> int:
    """As migrations.apply; how many."""
    return len(migrations.apply(store, path, line=line))


def status(store: Store, path: str | None, line: str | None) -> bytes:
    """As migrations.status."""
    found = migrations.status(store, path, line=line)
    return to_json(
        {
            "line": found.line,
            "version": found.version,
            "pending": [entry.name for entry in found.pending],
            "problems": found.problems,
            "entries": found.entries,
        }
    )
