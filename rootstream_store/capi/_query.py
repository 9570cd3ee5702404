"""Statements of the caller's own, and their rows as JSON."""

from __future__ import annotations

from typing import Any

import msgspec

from rootstream_store.database import RawRows, run_raw
from rootstream_store.errors import InvalidInput
from rootstream_store.store import Store

__all__ = ["query", "run_script"]


def query(store: Store, sql: str | None, parameters_json: bytes | None) -> tuple[bytes, int]:
    """The rows of one statement as JSON, and how many were answered or changed."""
    rows = _run(store, sql, _parameters(parameters_json))
    return rows.to_json(), rows.count


def run_script(store: Store, sql: str | None) -> RawRows:
    """What the last of several statements answered."""
    return _run(store, sql, None)


def _run(store: Store, sql: str | None, parameters: list[Any] | None) -> RawRows:
    if sql is None:
        raise InvalidInput("sql", "must not be null")
    # Not through a verb of Db, which takes only statements of the catalogue.
    with store._connection() as connection:
        return run_raw(connection, sql, parameters)


def _parameters(parameters_json: bytes | None) -> list[Any]:
    if parameters_json is None:
        return []
    try:
        return msgspec.json.decode(parameters_json, type=list[Any])
    except msgspec.DecodeError as error:
        raise InvalidInput("parameters_json", f"must be a JSON array: {error}") from None
