"""Statements and a table that tests of the core need and no repository has."""

from __future__ import annotations

from typing import Any

import msgspec
import psycopg

from rootstream_store.queries import Query

__all__ = [
    "ADD",
    "ADD_MANY",
    "ALL",
    "BACKEND",
    "COPY",
    "COUNT",
    "DIVIDE",
    "GET",
    "NUMBERS",
    "SET",
    "SLEEP",
    "Item",
    "make_items",
    "statement",
]


class Item(msgspec.Struct, frozen=True, kw_only=True):
    id: int
    name: str


def statement(text: str, record: type[Any] | None = None, name: str = "items/test") -> Query[Any]:
    """A query that no file holds."""
    return Query(name, text, record)


ADD = statement(
    "INSERT INTO items (id, name) VALUES (%(id)s::bigint, %(name)s::text) RETURNING id, name",
    Item,
    "items/add",
)
ADD_MANY = statement(
    "INSERT INTO items (id, name) SELECT n, 'item ' || n FROM generate_series(1, %(count)s::bigint) AS n",
    None,
)
GET = statement("SELECT id, name FROM items WHERE id = %(id)s::bigint", Item, "items/get")
ALL = statement("SELECT id, name FROM items ORDER BY id", Item, "items/all")
SET = statement("UPDATE items SET name = %(name)s::text WHERE id = %(id)s::bigint", None, "items/set")
COUNT = statement("SELECT count(*) FROM items", int, "items/count")
COPY = statement("COPY items (id, name) FROM STDIN (FORMAT binary)", None, "items/copy")
NUMBERS = statement("SELECT n FROM generate_series(1, %(count)s::bigint) AS n", int, "items/numbers")
BACKEND = statement("SELECT pg_backend_pid()", int, "items/backend")
SLEEP = statement("SELECT pg_sleep(%(seconds)s::double precision)", None, "items/sleep")
DIVIDE = statement("SELECT 1 / %(by)s::bigint", int, "items/divide")


def make_items(database_url: str) -> None:
    """An empty table `items`; a name is unique, and no item is called "bad"."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE items (id bigint PRIMARY KEY, name text NOT NULL, "
            "CONSTRAINT items_name_key UNIQUE (name) DEFERRABLE INITIALLY IMMEDIATE, "
            "CONSTRAINT items_name_known CHECK (name <> 'bad'))"
        )
