"""Stores of Python and of C, side by side."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import redis
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.sql import SQL, Identifier

from rootstream_store import Store

from .binding import Native


@pytest.fixture(scope="session")
def native() -> Native:
    return Native()


def other_redis(redis_url: str) -> str:
    """Another database of the same Redis, flushed: the two stores would take each other's answers for their
    own. Those of up to eight workers come first."""
    number = int(re.split(r"\D", redis_url)[-1])
    url = re.sub(r"\d+$", str(number + 7), redis_url)
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    return url


@pytest.fixture
def both(
    database_url: str,
    servers: Any,
    _admin: psycopg.Connection,
    _template: str,
    redis_url: str,
    native: Native,
) -> Iterator[tuple[Store, Any]]:
    """A store of Python and one of C, on databases that begin the same."""
    other = f"{conninfo_to_dict(database_url)['dbname']}_c"
    names = Identifier(other), Identifier(_template)
    _admin.execute(SQL("CREATE DATABASE {} TEMPLATE {}").format(*names))
    url = make_conninfo(servers.database_url, dbname=other)
    with Store.open(database_url, redis_url) as store:
        opened = native.open(url, other_redis(redis_url))
        yield store, opened
        native.close(opened)
    _admin.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(names[0]))
