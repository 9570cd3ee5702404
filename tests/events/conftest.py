"""What the tests of the event log share."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest


@pytest.fixture
def connection(database_url: str) -> Iterator[psycopg.Connection]:
    """A plain connection, in autocommit, to look behind the store."""
    with psycopg.connect(database_url, autocommit=True) as opened:
        yield opened
