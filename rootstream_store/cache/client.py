"""The plain redis-py client behind `store.redis`, with every wait bounded.

redis-py's own defaults hang for 59 s on a frozen server: eleven attempts of 5 s each. Nothing is repeated
here, since a lost reply followed by a retry counts an INCR twice. A pooled connection that the server has
closed meanwhile (a restart) is noticed when it is taken from the pool and replaced, so that a restart is not
seen as an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, cast

import redis
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from rootstream_store.cache._cluster import Nodes
from rootstream_store.cache._cluster_client import ClusterClient
from rootstream_store.cache._connections import CONNECTIONS, Address, Pool, floating, of_primary
from rootstream_store.cache._errors import describe_error, to_error
from rootstream_store.cache._sentinel import SentinelPool, Sentinels
from rootstream_store.cache._url import Target, parse, safe_url
from rootstream_store.errors import SettingsError
from rootstream_store.settings import Settings

__all__ = [
    "Pool",
    "close_idle",
    "connect",
    "dedicated",
    "describe_error",
    "nodes_of",
    "pool_of",
    "safe_url",
    "to_error",
]

_HEALTH_CHECK_INTERVAL = 30
"""A connection unused for this many seconds is proved by a PING first: a dropped network path then costs the
PING and not a command that might have been applied."""


def connect(settings: Settings) -> redis.Redis:
    """A redis-py client for `settings.redis_url`. Connects on first use, not here.

    Answers are bytes (`decode_responses=False`); RESP3, so the server must be Redis 6 or Valkey. Every reply,
    every connection attempt with its handshake and every wait for a free connection lasts at most
    `settings.redis_timeout`. Blocking commands (BLPOP, XREAD BLOCK) that wait longer need a client of their
    own. The client raises redis-py's errors.

    For a redis+cluster:// URL it is a redis.RedisCluster, which has the same commands. A call of it waits for
    2.2 times `settings.redis_timeout` at most.

    Raises SettingsError, which names the setting and never shows the password.
    """
    url = settings.redis_url
    if url is None:
        raise SettingsError("redis_url is missing: pass it or set REDIS_URL")
    if settings.redis_pool_size < 1:
        raise SettingsError(f"redis_pool_size must be at least 1, not {settings.redis_pool_size}")
    target = parse(url)
    options = {**_options(settings), **target.options}
    pool_options = {"max_connections": settings.redis_pool_size, "timeout": settings.redis_timeout}
    try:
        if target.kind == "cluster":
            return _cluster(target, settings, options)
        pool: Pool
        if target.kind == "sentinel":
            sentinels = Sentinels(
                target.scheme,
                target.nodes,
                target.service,
                settings.redis_timeout,
                {**_sentinel_options(settings), **target.sentinel_options},
            )
            pool = SentinelPool(target.scheme, sentinels, **pool_options, **options)
        else:
            pool = Pool.from_url(url, **pool_options, **options)
            pool.connection_class = of_primary(CONNECTIONS[target.scheme])
        # redis-py looks at most options only when it connects. Building one connection checks them now.
        pool.connection_class(**pool.connection_kwargs)
    except (ValueError, TypeError, redis.RedisError):
        # The cause is dropped: its text may hold a part of the URL, password included.
        raise SettingsError(
            f"redis_url has an option that cannot work: {safe_url(url)} (redis-py's from_url lists them)"
        ) from None
    return redis.Redis(connection_pool=pool)


def dedicated(client: redis.Redis, **options: Any) -> Any:
    """A connection outside the pool, not yet connected, with the client's options but for those given here.
    To the primary that sentinels name, or to some node of a cluster, each time it connects."""
    nodes = nodes_of(client)
    if nodes is None:
        pool = pool_of(client)
        return pool.connection_class(**{**pool.connection_kwargs, **options})
    cluster = cast("ClusterClient", client)
    kind = floating(cluster.rootstream_scheme, nodes.locate)
    return kind(**{**cluster.rootstream_options, **options})


def nodes_of(client: redis.Redis) -> Nodes | None:
    """The nodes of a cluster's client; None for any other."""
    known: object = client
    return known.rootstream_nodes if isinstance(known, ClusterClient) else None


def pool_of(client: redis.Redis) -> Pool:
    """The pool of a client made by `connect`, unless it is that of a cluster, which has one a node."""
    return cast("Pool", client.connection_pool)


def close_idle(client: redis.Redis) -> None:
    """Close the connections that nobody uses, in all pools of the client."""
    known: Any = client
    (known if nodes_of(client) is not None else pool_of(client)).close_idle()


def _cluster(target: Target, settings: Settings, options: dict[str, Any]) -> redis.Redis:
    connection_class = CONNECTIONS[target.scheme]
    connection_class(**options)  # checks the options, as above

    def make(address: Address) -> redis.Redis:
        make_pool: Callable[..., Pool] = Pool
        pool = make_pool(
            connection_class=connection_class,
            max_connections=settings.redis_pool_size,
            timeout=settings.redis_timeout,
            **{**options, "host": address[0], "port": address[1]},
        )
        return redis.Redis(connection_pool=pool)

    nodes = Nodes(target.nodes, make, timeout=settings.redis_timeout, retry_after=settings.redis_retry_after)
    client = ClusterClient(
        nodes,
        target.scheme,
        target.nodes,
        timeout=settings.redis_timeout,
        max_connections=settings.redis_pool_size,
        options=options,
    )
    return cast("redis.Redis", client)


def _options(settings: Settings) -> dict[str, Any]:
    return {
        "socket_timeout": settings.redis_timeout,
        "socket_connect_timeout": settings.redis_timeout,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 3,
        "decode_responses": False,
        "health_check_interval": _HEALTH_CHECK_INTERVAL,
        "client_name": _client_name(settings.application_name),
        # Two round trips fewer on each new connection.
        "driver_info": None,
        # Its "auto" costs a round trip a connection and relaxes the timeouts to 10 s when the server says so.
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }


def _sentinel_options(settings: Settings) -> dict[str, Any]:
    # RESP2, since a sentinel is asked one thing only: HELLO would be a second round trip.
    return {**_options(settings), "protocol": 2, "client_name": None, "health_check_interval": 0}


def _client_name(application_name: str) -> str | None:
    # CLIENT SETNAME refuses spaces and everything outside printable ASCII.
    return re.sub(r"[^!-~]+", "-", application_name) or None
