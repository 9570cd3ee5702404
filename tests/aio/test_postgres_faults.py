from __future__ import annotations

from collections.abc import Iterator

import pytest

from rootstream_store.async_store import AsyncStore
from rootstream_store.store import Store

from ..again import again
from ..faults import test_postgres_faults as _same
from ..faults.proxy import Proxy
from ..waiting import until
from .facade import Facade, Loop

globals().update(again(_same))


@pytest.fixture
def items(loop: Loop, proxy: Proxy, admin: object, redis_url: str) -> Iterator[Store]:
    """As the fixture of the same name there, on an event loop."""

    async def opened() -> AsyncStore:
        return await AsyncStore.open(
            proxy.database_url, redis_url, pool_size=1, pool_timeout=2, retry_deadline=3
        )

    store = Facade(loop, loop.wait(opened()))
    try:
        yield store
        until(lambda: store._pool.in_use() == 0, "pool at rest")
    finally:
        store.close()
