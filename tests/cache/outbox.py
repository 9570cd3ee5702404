"""What the outbox of invalidations holds, and plain SQL past the library."""

from __future__ import annotations

from typing import Any

import psycopg

__all__ = ["behind", "noted"]


def behind(database_url: str, text: str, *params: Any) -> int:
    """Runs a statement as somebody in psql does; returns how many rows it changed."""
    with psycopg.connect(database_url) as connection:
        return connection.execute(text.encode(), params).rowcount


def noted(database_url: str) -> list[str]:
    """The keys that wait, in order; they are forgotten, so that the next call tells of what came since."""
    with psycopg.connect(database_url) as connection:
        rows = connection.execute("DELETE FROM cache_invalidations RETURNING key").fetchall()
    return sorted(key for (key,) in rows)
