"""The event log: what happened to each aggregate, append-only, in order, and who caused it."""

from __future__ import annotations

from rootstream_store.events._append import (
    ANY,
    EXISTS,
    MAX_BATCH_EVENTS,
    NO_STREAM,
    Expected,
    NewEvent,
    append,
    append_many,
)
from rootstream_store.events._archive import archive, close, reopen
from rootstream_store.events._horizon import get_horizon, list_in_flight
from rootstream_store.events._payload import MAX_PAYLOAD_BYTES, MAX_PAYLOAD_DEPTH
from rootstream_store.events._read import (
    find_head,
    find_position,
    get,
    get_version,
    list_by_user,
    read,
    read_all,
    stream,
    stream_all,
)
from rootstream_store.events._snapshots import load_snapshot, save_snapshot

__all__ = [
    "ANY",
    "EXISTS",
    "MAX_BATCH_EVENTS",
    "MAX_PAYLOAD_BYTES",
    "MAX_PAYLOAD_DEPTH",
    "NO_STREAM",
    "Expected",
    "NewEvent",
    "append",
    "append_many",
    "archive",
    "close",
    "find_head",
    "find_position",
    "get",
    "get_horizon",
    "get_version",
    "list_by_user",
    "list_in_flight",
    "load_snapshot",
    "read",
    "read_all",
    "reopen",
    "save_snapshot",
    "stream",
    "stream_all",
]
