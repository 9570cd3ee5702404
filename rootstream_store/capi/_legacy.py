"""What stands behind the former C layer's DatabaseManager and RedisClient."""

from __future__ import annotations

import msgspec

from rootstream_store import migrations
from rootstream_store.capi import _query
from rootstream_store.capi._redis import RedisHolder
from rootstream_store.errors import InvalidInput, RootStreamError
from rootstream_store.settings import Settings
from rootstream_store.store import Store

__all__ = [
    "close",
    "close_redis",
    "execute",
    "is_connected",
    "migrate",
    "open_database",
    "open_redis",
    "query",
]


def open_database(url: str, pool_size: int) -> Store:
    """A store without Redis. `pool_size`: 0: the default."""
    settings = Settings(database_url=url)
    if pool_size:
        settings = msgspec.structs.replace(settings, pool_size=pool_size)
    return Store(settings)


def execute(store: Store, sql: str) -> int:
    """Rows that the last statement changed or answered with."""
    return _query.run_script(store, sql).count


def query(store: Store, sql: str) -> bytes:
    """The rows of the last statement as JSON."""
    return _query.run_script(store, sql).to_json()


def migrate(store: Store, path: str | None) -> None:
    """Applies what is pending."""
    migrations.apply(store, path)


def is_connected(store: Store) -> bool:
    """Whether PostgreSQL answers now."""
    try:
        return store.health().postgres.reachable
    except RootStreamError:
        return False


def close(store: Store) -> None:
    """Closes the store."""
    store.close()


def open_redis(host: str, port: int) -> RedisHolder:
    """`host`: name, address, or the path of a unix socket. Raises InvalidInput for the port 0, which a URL
    takes for the default one."""
    if host.startswith("/"):
        return RedisHolder(f"unix://{host}")
    if port == 0:
        raise InvalidInput("port", "must be 1 to 65535", port)
    return RedisHolder(f"redis://[{host}]:{port}" if ":" in host else f"redis://{host}:{port}")


def close_redis(holder: RedisHolder) -> None:
    """Closes the client."""
    holder.close()
