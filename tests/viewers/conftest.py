"""A stream on air, and its figures in PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rootstream_store.repositories import stream_sessions, streams
from rootstream_store.store import Store

from ..cache.conftest import own_valkey
from ..factories import make_stream_session

__all__ = ["Totals", "own_valkey", "totals"]

Totals = tuple[int, int, int, int]
"""Viewers in PostgreSQL: now, peak, total, different."""


def totals(store: Store, stream_id: int, session_id: int | None = None) -> Totals:
    """Of the session on air, or of this one."""
    session = (
        stream_sessions.get_current(store, stream_id)
        if session_id is None
        else stream_sessions.get(store, stream_id, session_id)
    )
    now = streams.get(store, stream_id).viewer_count
    return now, session.peak_viewers, session.total_viewers, session.unique_viewers


@pytest.fixture
def live(store: Store) -> int:
    """A stream on air."""
    return make_stream_session(store).stream_id


@pytest.fixture
def open_store(database_url: str) -> Iterator[Callable[..., Store]]:
    """Opens stores on the test's database; settings as keyword arguments. Closed at the end."""
    opened: list[Store] = []

    def make(**settings: Any) -> Store:
        opened.append(Store.open(database_url, **{"pool_size": 8, "pool_timeout": 10, **settings}))
        return opened[-1]

    yield make
    for store in opened:
        store.close()
