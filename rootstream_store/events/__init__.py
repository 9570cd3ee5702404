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
from rootstream_store.events._checkpoint import delete_subscription, list_checkpoints, list_lag, reset
from rootstream_store.events._horizon import get_horizon, list_in_flight
from rootstream_store.events._parked import discard_parked, list_parked, retry_parked
from rootstream_store.events._payload import MAX_PAYLOAD_BYTES, MAX_PAYLOAD_DEPTH
from rootstream_store.events._projection import Inline, Projection
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
from rootstream_store.events._rebuild import rebuild
from rootstream_store.events._snapshots import load_snapshot, save_snapshot
from rootstream_store.events._subscription import MAX_PARTITIONS, Subscription
from rootstream_store.events._wake import wake

__all__ = [
    "ANY",
    "EXISTS",
    "MAX_BATCH_EVENTS",
    "MAX_PARTITIONS",
    "MAX_PAYLOAD_BYTES",
    "MAX_PAYLOAD_DEPTH",
    "NO_STREAM",
    "Expected",
    "Inline",
    "NewEvent",
    "Projection",
    "Subscription",
    "append",
    "append_many",
    "delete_subscription",
    "discard_parked",
    "find_head",
    "find_position",
    "get",
    "get_horizon",
    "get_version",
    "list_by_user",
    "list_checkpoints",
    "list_in_flight",
    "list_lag",
    "list_parked",
    "load_snapshot",
    "read",
    "read_all",
    "rebuild",
    "reset",
    "retry_parked",
    "save_snapshot",
    "stream",
    "stream_all",
    "wake",
]
