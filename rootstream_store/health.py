"""Is everything well? What a load balancer, a dashboard and a person at night ask of a store."""

from __future__ import annotations

import importlib.metadata
import time
from typing import Literal

import msgspec

from rootstream_store import migrations
from rootstream_store._flushes import Flushes, FlushHealth
from rootstream_store._invalidations import get_backlog
from rootstream_store._probe import deadline, probe
from rootstream_store.cache import Cache, CacheHealth
from rootstream_store.database import Connection, Pool, fetch_one
from rootstream_store.errors import (
    PermissionDenied,
    RootStreamError,
    SettingsError,
    StoreClosed,
    Timeout,
    Unavailable,
)
from rootstream_store.queries import query
from rootstream_store.settings import redact

__all__ = [
    "FlushHealth",
    "Health",
    "InvalidationHealth",
    "MigrationHealth",
    "PoolHealth",
    "PostgresHealth",
    "Server",
    "check",
]

_POOL_WAIT = 0.5
"""Seconds in which a pool must have a connection to spare; a burst of calls is over sooner."""
_LONGEST_BACKLOG = 60.0
"""Seconds after which an invalidation is late: a process that uses the cache looks twice a second."""
_INVALIDATIONS_SINCE = 9
"""The migration that made their table."""


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """What a PostgreSQL server says of itself."""

    database: str
    version: str
    is_primary: bool
    is_read_only: bool


class PostgresHealth(msgspec.Struct, frozen=True, kw_only=True):
    """How PostgreSQL is doing, asked just now."""

    reachable: bool
    latency_ms: float | None = None
    """Time of one query on an open connection. None: not reachable."""
    server_version: str | None = None
    database: str | None = None
    is_primary: bool | None = None
    """False on a standby, which takes no writes."""
    is_read_only: bool | None = None
    """True on a standby, and where default_transaction_read_only is on."""
    url: str
    """Without the password."""
    error: str | None = None
    """Why it cannot be reached, or why no further connection can be opened; without secrets."""


class PoolHealth(msgspec.Struct, frozen=True, kw_only=True):
    """The pool of this process.

    Counts are since the store was opened. A call that waits in vain counts as a failed request each half
    second."""

    name: str
    size: int
    """Connections there are now."""
    max: int
    """Connections there may be: the setting pool_size."""
    in_use: int
    waiting: int
    """Calls that wait for a connection now."""
    exhausted: bool
    """True when no connection became free within half a second just now."""
    requests: int
    """Connections asked for."""
    requests_queued: int
    """Those of them that had to wait."""
    requests_wait_ms: int
    """How long these waited, all together, each in whole milliseconds."""
    requests_failed: int
    """Those that got none in time."""
    connections_opened: int
    connections_open_ms: int
    """How long opening them took, all together."""
    connections_failed: int
    """Attempts to open one that failed."""
    connections_lost: int
    """Connections found to be broken."""
    returned_broken: int
    """Those of them that a call gave back."""


class MigrationHealth(msgspec.Struct, frozen=True, kw_only=True):
    """Where the schema stands, on the library's own line."""

    version: int | None = None
    """The highest applied version, 0 when there is none. None: could not be read."""
    pending: tuple[str, ...] = ()
    """Files still to be applied."""
    problems: tuple[str, ...] = ()
    """What `migrate apply` would refuse, such as a database newer than this library."""
    error: str | None = None
    """Why it could not be read."""


class InvalidationHealth(msgspec.Struct, frozen=True, kw_only=True):
    """Changes whose keys wait to be removed from Redis."""

    waiting: int | None = None
    """At most 100,000 are counted. None: could not be read, or the schema is older."""
    oldest_seconds: float | None = None
    """Age of the oldest. None: none waits, or as above."""
    error: str | None = None
    """Why it could not be read."""


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """Made by `Store.health()`. `msgspec.json.encode` makes JSON of it; it holds no secret."""

    status: Literal["ok", "degraded", "down"]
    """down: PostgreSQL does not answer. degraded: it does, and `reasons` tells what is wrong all the same."""
    reasons: tuple[str, ...]
    """One line for each thing that is wrong; none when ok."""
    postgres: PostgresHealth
    pool: PoolHealth
    redis: CacheHealth
    invalidations: InvalidationHealth
    flushes: FlushHealth
    migrations: MigrationHealth
    version: str | None
    """Of this library. None: it is not installed but run from a checkout."""


_DESCRIBE = query("health/describe_server", Server)


def check(pool: Pool, cache: Cache, flushes: Flushes) -> Health:
    """Asks both servers now. Raises StoreClosed, and nothing because of a server.

    Waits at most connect_timeout for each address of PostgreSQL, as long again for its answers, half a second
    for the pool, and twice redis_timeout for Redis."""
    if pool.closed:
        raise StoreClosed(f"the store is closed (pool {pool.name!r})")
    exhausted = False
    try:
        with probe(pool.settings) as connection:
            postgres = _postgres(pool, connection)
            schema = _schema(connection)
            waiting = _invalidations(connection, schema)
        exhausted = _is_exhausted(pool)
    except (Unavailable, PermissionDenied, SettingsError) as error:
        postgres, schema, waiting = _through_pool(pool, error)
    except RootStreamError as error:
        postgres, schema, waiting = _unreachable(pool, error)
    redis = cache.health()
    state = _pool_health(pool, exhausted=exhausted)
    reasons = _reasons(postgres, state, redis, schema, waiting)
    flushed = flushes.read()
    if flushed.is_late:
        reasons.append(f"viewers: none were flushed for {flushed.age_seconds:.0f} s")
    return Health(
        status="down" if not postgres.reachable else "degraded" if reasons else "ok",
        reasons=tuple(reasons),
        postgres=postgres,
        pool=state,
        redis=redis,
        invalidations=waiting,
        flushes=flushed,
        migrations=schema,
        version=_version(),
    )


def _postgres(pool: Pool, connection: Connection, error: RootStreamError | None = None) -> PostgresHealth:
    started = time.perf_counter()
    server = fetch_one(connection, _DESCRIBE, {})
    latency = (time.perf_counter() - started) * 1000
    assert server is not None  # it has no FROM
    return PostgresHealth(
        reachable=True,
        latency_ms=latency,
        server_version=server.version,
        database=server.database,
        is_primary=server.is_primary,
        is_read_only=server.is_read_only,
        url=redact(pool.settings.database_url),
        error=None if error is None else error.message,
    )


def _schema(connection: Connection) -> MigrationHealth:
    try:
        status = migrations.status_on(connection)
    except (Unavailable, Timeout):
        raise
    except RootStreamError as error:
        return MigrationHealth(error=error.message)
    return MigrationHealth(
        version=status.version,
        pending=tuple(entry.name for entry in status.pending),
        problems=status.problems,
    )


def _invalidations(connection: Connection, schema: MigrationHealth) -> InvalidationHealth:
    if schema.version is not None and schema.version < _INVALIDATIONS_SINCE:
        return InvalidationHealth()
    try:
        backlog = get_backlog(connection)
    except (Unavailable, Timeout):
        raise
    except RootStreamError as error:
        return InvalidationHealth(error=error.message)
    return InvalidationHealth(waiting=backlog.waiting, oldest_seconds=backlog.oldest_seconds)


_Seen = tuple[PostgresHealth, MigrationHealth, InvalidationHealth]


def _through_pool(pool: Pool, error: RootStreamError) -> _Seen:
    """The server refused one more connection (max_connections, a new password): the pool's may still work."""
    try:
        connection = pool.acquire(timeout=_POOL_WAIT)
        try:
            with deadline(connection, pool.settings.connect_timeout):
                postgres, schema = _postgres(pool, connection, error), _schema(connection)
                return postgres, schema, _invalidations(connection, schema)
        finally:
            pool.release(connection)
    except (Unavailable, Timeout):
        return _unreachable(pool, error)


def _unreachable(pool: Pool, error: RootStreamError) -> _Seen:
    url = redact(pool.settings.database_url)
    return (
        PostgresHealth(reachable=False, url=url, error=error.message),
        MigrationHealth(error="PostgreSQL does not answer"),
        InvalidationHealth(error="PostgreSQL does not answer"),
    )


def _is_exhausted(pool: Pool) -> bool:
    if pool.in_use() < pool.settings.pool_size:
        return False
    try:
        pool.release(pool.acquire(timeout=_POOL_WAIT))
    except Timeout:
        return True
    except Unavailable:
        return False  # the server went away just now; the next check tells
    return False


def _pool_health(pool: Pool, *, exhausted: bool) -> PoolHealth:
    # psycopg_pool leaves out the counters that are still zero.
    stats = pool.stats()
    return PoolHealth(
        name=pool.name,
        size=stats["pool_size"],
        max=stats["pool_max"],
        in_use=pool.in_use(),
        waiting=stats["requests_waiting"],
        exhausted=exhausted,
        requests=stats.get("requests_num", 0),
        requests_queued=stats.get("requests_queued", 0),
        requests_wait_ms=stats.get("requests_wait_ms", 0),
        requests_failed=stats.get("requests_errors", 0),
        connections_opened=stats.get("connections_num", 0),
        connections_open_ms=stats.get("connections_ms", 0),
        connections_failed=stats.get("connections_errors", 0),
        connections_lost=stats.get("connections_lost", 0),
        returned_broken=stats.get("returns_bad", 0),
    )


def _reasons(
    postgres: PostgresHealth,
    pool: PoolHealth,
    redis: CacheHealth,
    schema: MigrationHealth,
    waiting: InvalidationHealth,
) -> list[str]:
    reasons: list[str] = []
    if postgres.error:
        reasons.append(f"PostgreSQL: {postgres.error}")
    if postgres.is_read_only:
        kind = "a server that is read-only" if postgres.is_primary else "a standby"
        reasons.append(f"PostgreSQL: {kind}, writes fail")
    if pool.exhausted:
        busy = f"all {pool.max} connections are in use, {pool.waiting} calls wait"
        reasons.append(f"pool {pool.name!r} exhausted: {busy}")
    if redis.enabled and not redis.reachable:
        reasons.append(f"Redis: {redis.error}")
    elif redis.slow:
        reasons.append(f"Redis: slow, a PING took {redis.latency_ms:.0f} ms")
    elif redis.refuses:
        reasons.append(f"Redis: it refuses commands: {redis.error}")
    if redis.enabled and postgres.reachable:
        if waiting.error and not schema.error:
            reasons.append(f"invalidations: {waiting.error}")
        elif waiting.oldest_seconds is not None and waiting.oldest_seconds > _LONGEST_BACKLOG:
            seconds = f"{waiting.oldest_seconds:.0f} s"
            reasons.append(f"invalidations: {waiting.waiting} wait for Redis, the oldest for {seconds}")
    if redis.near.state == "refused":
        reasons.append(f"near-cache: Redis does not tell of changes: {redis.near.error}")
    if postgres.reachable:
        if schema.pending:
            reasons.append(f"migrations: {len(schema.pending)} pending, from {schema.pending[0]} on")
        reasons += [f"migrations: {problem}" for problem in schema.problems]
        if schema.error:
            reasons.append(f"migrations: {schema.error}")
    return reasons


def _version() -> str | None:
    try:
        return importlib.metadata.version("rootstream-store")
    except importlib.metadata.PackageNotFoundError:
        return None
