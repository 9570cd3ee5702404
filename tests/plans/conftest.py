from __future__ import annotations

import os
from collections.abc import Iterator

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.rows import TupleRow
from psycopg.sql import SQL, Identifier

from ..servers import Servers
from .population import populate


@pytest.fixture(scope="module")
def populated(
    servers: Servers, _admin: psycopg.Connection[TupleRow], _template: str
) -> Iterator[psycopg.Connection[TupleRow]]:
    """A connection in autocommit to a populated database; whoever changes something takes it back."""
    name = f"rootstream_plans_{os.getpid()}"
    _admin.execute(
        SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy").format(
            Identifier(name), Identifier(_template)
        )
    )
    try:
        url = make_conninfo(servers.database_url, dbname=name)
        # Never prepared by psycopg itself: the tests say what is planned, and how.
        with psycopg.connect(url, autocommit=True, prepare_threshold=None) as connection:
            populate(connection)
            yield connection
    finally:
        _admin.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))
