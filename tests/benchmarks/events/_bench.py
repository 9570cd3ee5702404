"""What the groups share: servers, databases and stores, and tables of events."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

from rootstream_store import Store

from .._harness import Call, Figures, measure, ratios
from .._suite import Suite
from ._logs import load_log

__all__ = ["Bench"]

_EVENTS = {"p50_us": ("µs an event", ".2f"), "ratio": ("ratio", ".2f"), "cpu_us": ("client CPU µs", ".2f")}
_RATES = {"events_per_s": ("events/s", ",.0f"), "ratio": ("ratio", ".2f")}


@dataclass(kw_only=True)
class Bench(Suite):
    """One run, on one server after the other."""

    sizes: list[int]
    """Of the log, for the group growth."""
    _database_url: str = ""
    _admin: psycopg.Connection | None = None
    _template: str | None = None
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def connect(self, database_url: str, admin: psycopg.Connection) -> None:
        """Goes to another server. `admin` is connected to the database of that URL, in autocommit, and nobody
        else is: it is copied."""
        self._database_url, self._admin, self._template = database_url, admin, None

    def per_event(
        self, title: str, contenders: dict[str, Call], baseline: str, rounds: int, calls: int, events: int
    ) -> Figures:
        """The same for calls that handle so many events each."""
        found = measure(
            contenders, baseline, self.rounds(rounds), calls, per_call=events, seconds=self.seconds
        )
        return self.table(title, found, _EVENTS)

    def rates(self, title: str, events_per_s: dict[str, float], baseline: str, **more: Any) -> Figures:
        """Prints a table of rates. `more`: by key, heading, format and the value of each contender."""
        found: Figures = {name: {"events_per_s": rate} for name, rate in events_per_s.items()}
        columns = dict(_RATES)
        for key, (heading, form, values) in more.items():
            columns[key] = (heading, form)
            for name, value in values.items():
                found[name][key] = value
        return self.table(title, ratios(found, "events_per_s", baseline), columns)

    def database(self, *, loaded: bool = True) -> str:
        """The URL of a migrated database of its own; `loaded`: with the log that all begin with. It goes with
        the servers: dropping each would take longer than measuring."""
        if loaded and self._template is None:
            self._template = self._create(self._base)
            load_log(self._url(self._template))
        return self._url(self._create(self._template if loaded and self._template else self._base))

    @contextlib.contextmanager
    def store(self, pool_size: int = 1) -> Iterator[Store]:
        """A store on a loaded database of its own."""
        with Store.open(self.database(), pool_size=pool_size) as store:
            yield store

    @property
    def admin(self) -> psycopg.Connection:
        """For settings of the server, and what is done to a database from outside."""
        assert self._admin is not None, "not connected"
        return self._admin

    @property
    def _base(self) -> str:
        return self.admin.info.dbname

    def _url(self, name: str) -> str:
        return make_conninfo(self._database_url, dbname=name)

    def _create(self, template: str) -> str:
        name = f"bench_{next(self._numbers)}"
        self.admin.execute(
            SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY wal_log").format(
                Identifier(name), Identifier(template)
            )
        )
        return name
