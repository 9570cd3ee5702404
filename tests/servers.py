"""Finds or starts the servers of a test run; xdist workers share one pair, each with databases of its own."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from rootstream_store.embedded import EmbeddedServers

# Redis has 16 databases by default; 0 is left to whoever owns a server given by URL.
_FIRST_REDIS_DATABASE = 1


@dataclass(frozen=True)
class Servers:
    database_url: str
    redis_url: str


@contextlib.contextmanager
def shared_servers(*, docker: bool, worker: str) -> Iterator[Servers]:
    """Servers from the environment, from Docker, or from the wheels: as each worker starts its own pair in
    half a second, nothing has to be shared or locked."""
    number = int(worker.removeprefix("gw")) if worker.startswith("gw") else 0
    with contextlib.ExitStack() as stack:
        database_url = os.environ.get("DATABASE_URL")
        redis_url = os.environ.get("REDIS_URL")
        if docker:
            database_url = database_url or stack.enter_context(_docker_postgres())
            redis_url = redis_url or stack.enter_context(_docker_redis())
        if not (database_url and redis_url):
            own = EmbeddedServers.start(postgres=not database_url, redis=not redis_url, durable=False)
            stack.callback(own.stop)
            database_url = database_url or own.database_url
            redis_url = redis_url or own.redis_url
        yield Servers(database_url, _with_database(redis_url, _FIRST_REDIS_DATABASE + number))


def _with_database(url: str, number: int) -> str:
    parts = urlsplit(url)
    if parts.scheme == "unix":
        query = dict(parse_qsl(parts.query)) | {"db": str(number)}
        # urlunsplit would leave out the // of a URL without a host.
        return f"unix://{parts.path}?{urlencode(query)}"
    return urlunsplit(parts._replace(path=f"/{number}"))


@contextlib.contextmanager
def _docker_postgres() -> Iterator[str]:
    from testcontainers.community.postgres import PostgresContainer

    with PostgresContainer("postgres:18-alpine", driver=None) as container:
        yield container.get_connection_url()


@contextlib.contextmanager
def _docker_redis() -> Iterator[str]:
    from testcontainers.community.redis import RedisContainer

    with RedisContainer("valkey/valkey:9-alpine") as container:
        yield f"redis://{container.get_container_host_ip()}:{container.get_exposed_port(6379)}/0"
