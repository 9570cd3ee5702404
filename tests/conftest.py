"""Servers and databases for the tests: real ones, shared by a run, a fresh database for each test that asks.

Servers come from DATABASE_URL and REDIS_URL, else from Docker when ROOTSTREAM_TEST_DOCKER=1, else from the
embedded wheels. A database is cloned from a template that was migrated once, so that tests do not see each
other's rows.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

import psycopg
import pytest
import redis
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

from rootstream_store import migrations
from rootstream_store.store import Store

from .servers import Servers, shared_servers
from .waiting import until

if TYPE_CHECKING:
    from _pytest.config import Config

_numbers = itertools.count(1)
_VALUES_AGAIN = 3


def pytest_report_header(config: Config) -> str:
    if hasattr(config, "workerinput"):
        return ""
    where = "DATABASE_URL" if os.environ.get("DATABASE_URL") else "Docker" if docker_wanted() else "embedded"
    return f"servers: PostgreSQL and Redis, {where}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of a test that another module runs again (see `again`), a few of its values are enough there, and none
    that hypothesis chooses: it takes the other class for a mistake."""
    seen: Counter[tuple[str, str]] = Counter()

    def is_wanted(item: pytest.Item) -> bool:
        if not isinstance(item, pytest.Function) or item.function.__module__ == item.module.__name__:
            return True
        if getattr(item.function, "is_hypothesis_test", False):
            return False
        name = (item.module.__name__, item.function.__qualname__)
        seen[name] += 1
        return seen[name] <= _VALUES_AGAIN

    items[:] = [item for item in items if is_wanted(item)]


def docker_wanted() -> bool:
    return os.environ.get("ROOTSTREAM_TEST_DOCKER") == "1"


@pytest.fixture(scope="session")
def servers(worker_id: str) -> Iterator[Servers]:
    """URLs of a PostgreSQL where databases may be created, and of a Redis database of this worker's own."""
    with shared_servers(docker=docker_wanted(), worker=worker_id) as found:
        yield found


@pytest.fixture(scope="session")
def _admin(servers: Servers) -> Iterator[psycopg.Connection]:
    with psycopg.connect(servers.database_url, autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="session")
def _template(servers: Servers, _admin: psycopg.Connection, worker_id: str) -> Iterator[str]:
    name = f"rootstream_template_{worker_id}_{os.getpid()}"
    _admin.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
    migrations.apply(make_conninfo(servers.database_url, dbname=name))
    yield name
    _admin.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))


def _database(servers: Servers, admin: psycopg.Connection, template: str) -> Iterator[str]:
    name = f"rootstream_test_{os.getpid()}_{next(_numbers)}"
    admin.execute(
        SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy").format(
            Identifier(name), Identifier(template)
        )
    )
    yield make_conninfo(servers.database_url, dbname=name)
    admin.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))


@pytest.fixture
def database_url(servers: Servers, _admin: psycopg.Connection, _template: str) -> Iterator[str]:
    """A migrated database of the test's own, empty."""
    yield from _database(servers, _admin, _template)


@pytest.fixture
def empty_database_url(servers: Servers, _admin: psycopg.Connection) -> Iterator[str]:
    """A database of the test's own with no table at all."""
    yield from _database(servers, _admin, "template0")


@pytest.fixture
def redis_url(servers: Servers) -> str:
    """A Redis database of the test's own, flushed."""
    client = redis.Redis.from_url(servers.redis_url)
    client.flushdb()
    client.close()
    return servers.redis_url


@pytest.fixture
def store(database_url: str, redis_url: str) -> Iterator[Store]:
    """A store on a migrated, empty database and an empty Redis; its pool must be at rest when the test
    ends. It waits for Redis for as long as it takes: a busy machine is no fault."""
    with Store.open(database_url, redis_url, pool_size=8, pool_timeout=10, redis_timeout=20) as opened:
        yield opened
        # The thread that sweeps invalidations may have one for a moment.
        until(lambda: opened._pool.in_use() == 0, "a connection to be given back")
