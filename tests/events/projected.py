"""A projection for the tests: the sum of the amounts of each aggregate. Run as a program it rebuilds it and
stops halfway."""

from __future__ import annotations

import sys
import time
from typing import Any

import psycopg
from psycopg.sql import SQL, Identifier

from rootstream_store import events
from rootstream_store.db import Db
from rootstream_store.events import Projection
from rootstream_store.records import Event
from rootstream_store.store import Store

from ..statements import statement

__all__ = ["ADD", "TABLES", "count_up", "totals", "totals_projection"]

TABLES = statement(
    "CREATE TABLE totals (aggregate text PRIMARY KEY, total bigint NOT NULL, version bigint NOT NULL)",
    None,
    "totals/create",
)
ADD = statement(
    "INSERT INTO totals AS t (aggregate, total, version) "
    "VALUES (%(aggregate)s::text, %(amount)s::bigint, %(version)s::bigint) "
    "ON CONFLICT (aggregate) DO UPDATE SET total = t.total + excluded.total, version = excluded.version",
    None,
    "totals/add",
)


def count_up(tx: Db, event: Event) -> None:
    """The handler."""
    if event.event_type == "Added":
        amount = event.event_data["amount"] + 0
        tx.run(ADD, aggregate=event.aggregate_id, amount=amount, version=event.version)


totals_projection = Projection("totals", count_up, TABLES, event_types=["Added"])


def totals(
    connection: psycopg.Connection[Any], schema: str = "projection_totals"
) -> dict[str, tuple[int, int]]:
    """Total and last version by aggregate."""
    text = SQL("SELECT aggregate, total, version FROM {}").format(Identifier(schema, "totals"))
    found = connection.execute(text)
    return {aggregate: (total, version) for aggregate, total, version in found.fetchall()}


def main() -> None:
    """Rebuilds the projection until it is killed."""
    handled = 0

    def handler(tx: Db, event: Event) -> None:
        nonlocal handled
        handled += 1
        if handled == 20:
            print("half", flush=True)
            time.sleep(3600)
        count_up(tx, event)

    with Store.open(sys.argv[1], pool_size=2) as store:
        events.rebuild(store, Projection("totals", handler, TABLES, event_types=["Added"]), batch_size=5)


if __name__ == "__main__":
    main()
