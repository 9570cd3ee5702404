"""`store` is here an AsyncStore behind the face of a Store."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rootstream_store.async_store import AsyncStore
from rootstream_store.store import Store

from ..events.conftest import connection
from ..viewers.conftest import live, open_store
from ..waiting import until
from .facade import Facade, Loop

__all__ = ["connection", "live", "loop", "open_store", "store"]


@pytest.fixture(scope="session")
def loop() -> Iterator[Loop]:
    """An event loop in a thread of its own."""
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture
def store(loop: Loop, database_url: str, redis_url: str) -> Iterator[Store]:
    """As the fixture of the same name of all tests, on an event loop."""

    async def opened() -> AsyncStore:
        return await AsyncStore.open(database_url, redis_url, pool_size=8, pool_timeout=10, redis_timeout=20)

    store = Facade(loop, loop.wait(opened()))
    try:
        yield store
        until(lambda: store._pool.in_use() == 0, "a connection to be given back")
    finally:
        store.close()
