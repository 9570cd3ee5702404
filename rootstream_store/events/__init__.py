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
from rootstream_store.events._erasure import erase
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
from rootstream_store.events._seals import MAX_SEALED_POSITIONS, find_last_seal, seal, verify
from rootstream_store.events._snapshots import load_snapshot, save_snapshot

__all__ = [
    "ANY",
    "EXISTS",
    "MAX_BATCH_EVENTS",
    "MAX_PAYLOAD_BYTES",
    "MAX_PAYLOAD_DEPTH",
    "MAX_SEALED_POSITIONS",
    "NO_STREAM",
    "Expected",
    "NewEvent",
    "append",
    "append_many",
    "archive",
    "close",
    "erase",
    "find_head",
    "find_last_seal",
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
    "seal",
    "stream",
    "stream_all",
    "verify",
]
