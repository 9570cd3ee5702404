"""`store` sends each statement through a cursor of psycopg."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rootstream_store.store import Store

from ..events.conftest import connection
from ..viewers.conftest import live, open_store
from ..waiting import until

__all__ = ["connection", "live", "open_store", "store"]


@pytest.fixture
def store(database_url: str, redis_url: str) -> Iterator[Store]:
    """As the fixture of the same name of all tests, with `pgbouncer=True`."""
    with Store.open(
        database_url, redis_url, pgbouncer=True, pool_size=8, pool_timeout=10, redis_timeout=20
    ) as opened:
        yield opened
        until(lambda: opened._pool.in_use() == 0, "a connection to be given back")
