"""The event log: what happened to each aggregate, append-only, in order, and who caused it."""

from __future__ import annotations

from rootstream_store.events._append import append, append_many
from rootstream_store.events._append_together import AggregateEvents, append_together
from rootstream_store.events._appender import Appender
from rootstream_store.events._archive import archive
from rootstream_store.events._checkpoint import delete_subscription, list_checkpoints, list_lag, reset
from rootstream_store.events._close import close, reopen
from rootstream_store.events._erasure import erase
from rootstream_store.events._fold import Fold, Loaded
from rootstream_store.events._horizon import get_horizon, list_in_flight
from rootstream_store.events._import import PastEvent, import_events
from rootstream_store.events._load import load
from rootstream_store.events._new_event import (
    ANY,
    EXISTS,
    MAX_BATCH_EVENTS,
    NO_STREAM,
    Expected,
    NewEvent,
    follows,
)
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
from rootstream_store.events._rejected import discard_rejected, list_rejected
from rootstream_store.events._seals import MAX_SEALED_POSITIONS, find_last_seal, seal, verify
from rootstream_store.events._snapshots import load_snapshot, prune_snapshots, save_snapshot
from rootstream_store.events._subscription import MAX_PARTITIONS, Subscription
from rootstream_store.events._types import EventTypes, TypedEvent, Upcaster
from rootstream_store.events._wake import wake

__all__ = [
    "ANY",
    "EXISTS",
    "MAX_BATCH_EVENTS",
    "MAX_PARTITIONS",
    "MAX_PAYLOAD_BYTES",
    "MAX_PAYLOAD_DEPTH",
    "MAX_SEALED_POSITIONS",
    "NO_STREAM",
    "AggregateEvents",
    "Appender",
    "EventTypes",
    "Expected",
    "Fold",
    "Inline",
    "Loaded",
    "NewEvent",
    "PastEvent",
    "Projection",
    "Subscription",
    "TypedEvent",
    "Upcaster",
    "append",
    "append_many",
    "append_together",
    "archive",
    "close",
    "delete_subscription",
    "discard_parked",
    "discard_rejected",
    "erase",
    "find_head",
    "find_last_seal",
    "find_position",
    "follows",
    "get",
    "get_horizon",
    "get_version",
    "import_events",
    "list_by_user",
    "list_checkpoints",
    "list_in_flight",
    "list_lag",
    "list_parked",
    "list_rejected",
    "load",
    "load_snapshot",
    "prune_snapshots",
    "read",
    "read_all",
    "rebuild",
    "reopen",
    "reset",
    "retry_parked",
    "save_snapshot",
    "seal",
    "stream",
    "stream_all",
    "verify",
    "wake",
]
