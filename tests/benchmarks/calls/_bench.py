"""What the groups share: the server, and a store without Redis on a database with something in it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

from rootstream_store import Store, migrations
from rootstream_store.embedded import EmbeddedServers
from rootstream_store.settings import Settings

from .._suite import Suite
from ._contest import Contest
from ._picture import Panel
from ._replay import Native, find_libpq
from ._world import World
from .cases import CASES

__all__ = ["AIMS", "LIBPQ", "Bench", "open_store"]

AIMS: Final[dict[str, tuple[float, str, bool]]] = {
    "a read by key, beside libpq in C": (1.5, "x", True),
    "a read by key, beside psycopg's cursor on a held connection": (0.6, "x", True),
    "processor time of the client for a read by key": (25, "µs", True),
    "a page of 100 records, beside psycopg's tuples": (1.1, "x", True),
    "an append of one event, durable, beside libpq in C": (1.2, "x", True),
    "calls a second in 8 threads, pools of 8, beside psycopg_pool": (1.5, "x", False),
    "calls a second in 8 threads, pools of 20, beside psycopg_pool": (1.5, "x", False),
    "AsyncStore, beside asyncpg's pool.fetchrow": (1.0, "x", True),
    "processor time of the import, beyond that of the drivers": (150, "ms", True),
    "statements prepared twice on a connection": (0, "statements", True),
}
"""What is wanted, by what it is of: the figure, its unit, and whether it is the most or the least."""

LIBPQ = "libpq in C, nothing decoded"


def open_store(database_url: str, redis_url: str | None = None, **settings: Any) -> Store:
    """A store that takes nothing from the environment."""
    return Store(Settings(database_url=database_url, redis_url=redis_url, **settings))


@dataclass(kw_only=True)
class Bench(Suite):
    """One run, on one pair of servers. A context manager."""

    servers: EmbeddedServers
    libpq: str | None = field(default_factory=find_libpq)
    """Its file. None: it cannot be measured here."""
    panels: list[Panel] = field(default_factory=list)
    """Of the picture."""
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def database_url(self) -> str:
        """Of the database of `store` and `world`."""
        return self.servers.database_url

    @cached_property
    def store(self) -> Store:
        """Without Redis: every answer comes from PostgreSQL."""
        return self._stack.enter_context(open_store(self.database_url, pool_size=8))

    @cached_property
    def world(self) -> World:
        return World.build(self.store)

    @cached_property
    def native(self) -> Native | None:
        """libpq in C; None where it cannot be measured here."""
        if self.libpq is None:
            self.console.print("libpq is left out: no C compiler, or no libpq, was found")
            return None
        return self._stack.enter_context(Native(self.database_url, self.libpq))

    def contest(self, name: str) -> Contest:
        """The ways of a call."""
        return Contest(CASES[name], self.store, self.world)

    def aim(self, what: str, reached: float) -> None:
        """Keeps what was reached of AIMS."""
        wanted, unit, at_most = AIMS[what]
        self.target(what, wanted, reached, unit, at_most=at_most)

    @contextlib.contextmanager
    def database(self, name: str) -> Iterator[str]:
        """Another one, migrated and empty."""
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            connection.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
        url = make_conninfo(self.database_url, dbname=name)
        migrations.apply(url)
        yield url
