"""What each query may do on the populated database: the indexes that it uses, the most rows that it reads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from typing import Any, Final
from uuid import UUID

from ..factories import PASSWORD_HASH
from .population import (
    ARCHIVED_AGGREGATE,
    ARCHIVED_USER,
    BUSY_AGGREGATE,
    BUSY_SESSION,
    BUSY_STREAM,
    BUSY_USER,
    LIVE_STREAM,
    PLAIN_STREAM,
    PLAIN_USER,
)

__all__ = ["EXEMPT", "PLANS", "Plan", "values_of"]


@dataclass(frozen=True)
class Plan:
    """The plan of a query for values that ask most of it."""

    indexes: set[str]
    """All that it uses, no more and no fewer."""
    rows: int
    """The most rows that it may read, wanted or not, those that its triggers read among them: one for each
    foreign key that is checked."""
    values: Mapping[str, object] = field(default_factory=dict)
    """Where they differ from _VALUES."""
    tables: int | None = None
    """How many tables and partitions it may scan. None: as many as it likes."""


# Areas and queries without a plan worth guarding.
EXEMPT: Final = {
    "capi/end_backend": "reads the processes of the server, no table",
    "capi/open_writer": "reads all of a table of one row for each store that is open",
    "events/copy_events": "COPY has no plan",
    "events/archive": "calls a function that moves what the queries before it found",
    "events/erase": "calls a function, the data it is asked for decide what it reads",
    "events/find_false_erasure": "reads the records of all erasures",
    "events/get_horizon": "reads a sequence and the locks of the server, no table",
    "events/list_in_flight": "the same",
    "health/": "reads settings, no table",
    "maintenance/": "calls functions that change the schema, once a day",
    "metrics/": "reads the system catalogue",
    "migration/": "reads a ledger of some tens of rows, and the system catalogue",
    "projections/create_schema": "calls a function that makes a schema",
    "projections/drop_schema": "calls a function that drops a schema",
    "projections/get_last_position": "reads a sequence, no table",
    "projections/has_schema": "reads the system catalogue",
    "projections/lock_aggregate": "takes a lock, reads no table",
    "projections/lock_schemas": "takes a lock, reads no table",
    "projections/lock_log": "the same",
    "projections/restore_path": "changes a setting",
    "projections/switch_schemas": "calls a function that renames two schemas",
    "projections/use_schema": "changes a setting",
    "subscriptions/list_lag": "reads all of a table of some tens of rows, for people and scrapes",
    "usage/copy_logs": "COPY has no plan",
}

_THIS_MONTH: Final = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
_LAST_MONTH: Final = (_THIS_MONTH - timedelta(days=1)).replace(day=1)

_VALUES: Final[dict[str, object]] = {
    "aggregate_id": BUSY_AGGREGATE,
    "aggregate_ids": ["1", "2", "10"],
    "aggregate_type": "stream",
    "aggregate_types": ["user", "stream", "stream"],
    "after_id": 0,
    "after_number": 2500,
    "after_position": 0,
    "after_type": "",
    "at": datetime.now(UTC) - timedelta(minutes=30_000),
    "after_version": 0,
    "attempts": 5,
    "avatar_url": None,
    "batch": 1000,
    "before": datetime.now(UTC),
    "before_created_at": None,
    "before_hash": None,
    "before_id": None,
    "before_position": 2**63 - 1,
    "bitrate_kbps": 6000,
    "bytes_sent": 1000,
    "bytes_transferred": 1000,
    "checked_hash": PASSWORD_HASH,
    "codec": "h264",
    "count": 3,
    "created_at": None,
    "description": None,
    "device_id": "phone",
    "display_name": "Somebody",
    "duration_seconds": 60,
    "email": "user1234@EXAMPLE.com",
    "event_data": "{}",
    "event_id": UUID(int=1),
    "event_ids": [UUID(int=n) for n in range(3)],
    "event_type": "viewer_join",
    "error": "no",
    "error_class": "ValueError",
    "error_text": "no",
    "event_types": None,
    "expected": 20_000,
    "expires_at": None,
    "failed_position": 59_991,
    "file_path": "new file",
    "file_size_bytes": 1000,
    "force": False,
    "fps": 60.0,
    "ip_address": IPv4Address("192.0.2.7"),
    "is_active": False,
    "is_available": False,
    "is_atomic": True,
    "is_closed": True,
    "is_public": False,
    "is_recorded": True,
    "is_repeatable": True,
    "counted_session_id": None,
    "epoch": None,
    "joined": 2,
    "keep": 2,
    "kept_hash": None,
    "left": 1,
    "lease": timedelta(seconds=30),
    "lifetime": timedelta(days=1),
    "limit": 100,
    "login": "uSER1234@example.com",
    "metadata": None,
    "month": None,
    "monthly_limit_gb": 50,
    "months": 3,
    "name": "stream",
    "number": 2500,
    "now": None,
    "owner": UUID(int=1),
    "partition": 0,
    "partitions": 8,
    "password_hash": PASSWORD_HASH,
    "payment_method": "card",
    "peak": None,
    "position": 75_000,
    "rebuild_name": "subscription 8",
    "recording_id": 15_000,
    "recording_path": "path",
    "resolution": "1920x1080",
    "schema_version": 1,
    "session_id": None,
    "set_avatar_url": True,
    "since": _LAST_MONTH,
    "state": "{}",
    "stream_id": BUSY_STREAM,
    "stream_key": "42".rjust(43, "k"),
    "stream_url": None,
    "stronger_hash": None,
    "subscription_tier": "pro",
    "thumbnail_url": None,
    "to_position": 2**63 - 1,
    "to_version": 2**63 - 1,
    "token_hash": hashlib.sha256(b"29999").digest(),
    "unique": None,
    "until": _LAST_MONTH + timedelta(days=9),
    "user_agent": "test",
    "user_id": BUSY_USER,
    "user_ids": [1, 2, None],
    "username": "uSER1234",
    "version": 15_000,
    "viewer_count": 7,
}


def values_of(plan: Plan, parameters: Mapping[str, str | None]) -> dict[str, object]:
    """A value for each parameter of a query."""
    known: dict[str, Any] = {name: True for name in parameters if name.startswith("set_")}
    known |= _VALUES
    return {name: plan.values[name] if name in plan.values else known[name] for name in parameters}


def _one(*indexes: str, rows: int = 1, tables: int | None = None, **values: object) -> tuple[Plan]:
    return (Plan(set(indexes), rows, values, tables),)


def _pages(
    index: str, rows: int = 100, sparse: Mapping[str, object] | None = None, **middle: object
) -> tuple[Plan, ...]:
    """The plans of the first page and of one from the middle, and, with `sparse`, of one with at most three
    rows, for which an index in the wrong order would be read through."""
    pages = (Plan({index}, rows), Plan({index}, rows, middle))
    return pages if sparse is None else (*pages, Plan({index}, 3, sparse))


_PLAIN: Final[dict[str, object]] = {"user_id": PLAIN_USER, "stream_id": PLAIN_STREAM}
_MANY: Final[dict[str, Any]] = {
    "heads": json.dumps([("ViewerJoined", str(UUID(int=n)), n or None, n + 1) for n in range(3)]),
    "event_data": "[{}, {}, {}]",
    "chosen_ids": [UUID(int=n) for n in range(3)],
}


_HEAD_AND_ID: Final = ("aggregates_pkey", "event_log_event_id_key")
_TOGETHER: Final[dict[str, Any]] = {
    **_MANY,
    "aggregate_ids": [BUSY_AGGREGATE, "1000", "new"],
    "aggregate_types": ["stream"] * 3,
    "expected": [20_000, -1, 0],
    "counts": [1, 1, 1],
}


_WRITER: Final[dict[str, Any]] = {
    "writer": UUID(int=7),
    "from_position": 75_000,
    "to_position": 76_000,
    "events_position": 75_000,
    "stats_batch": 1000,
    "sqlstate": None,
}
_STATS: Final[dict[str, Any]] = {
    "batch": 1001,
    "stream_ids": [BUSY_STREAM, LIVE_STREAM],
    "viewer_counts": [7, -1],
    "most_viewers": [9, -1],
    "bitrates_kbps": [-1, 6000],
    "fps": [60.0, 0.0],
    "bytes_sent": [1000, 1000],
}
_ARCHIVED: Final[dict[str, object]] = {"aggregate_id": ARCHIVED_AGGREGATE, "since": None}
_LOG: Final = {"event_log_position_idx", "event_segments_covers_idx", "event_segments_first_position_idx"}
# Of a range: the events wherever they are, and what was erased of them.
_EVERYWHERE: Final = {"event_log_position_idx", "event_segments_covers_idx"}
_SEALED: Final = _EVERYWHERE | {"event_erased_position_idx", "event_seals_pkey"}
_LOADED: Final = {"snapshots_pkey", "event_log_pkey", "aggregates_pkey"}
_OF_USER: Final = {"event_log_user_id_idx", "event_segments_user_ids_idx"}


def _events(**middle: object) -> tuple[Plan, ...]:
    """The plans of the first page of an aggregate's events, of one from the middle, and of archived ones."""
    indexes = {"event_log_pkey", "event_segments_pkey"}
    return (
        Plan(indexes, 100, {"since": None}),
        Plan(indexes, 100, {"since": None, **middle}),
        Plan(indexes, 1, _ARCHIVED),
    )


PLANS: Final[dict[str, tuple[Plan, ...]]] = {
    "billing/delete": _one("billing_accounts_user_id_key"),
    "billing/get": _one("billing_accounts_user_id_key"),
    # The account, and the thousand entries that the sum is made of.
    "billing/get_quota": _one("billing_accounts_user_id_key", "usage_logs_pkey", rows=1001, tables=2),
    "billing/open": _one(user_id=19_500),
    "billing/set_payment_method": _one("billing_accounts_user_id_key"),
    "billing/set_tier": _one("billing_accounts_user_id_key"),
    "cache/delete_invalidations": _one("cache_invalidations_pkey", rows=6, ids=[3, 10_000, 19_999]),
    # The oldest thousand are looked at, and looked up to be deleted.
    "cache/delete_outdated_invalidations": _one("cache_invalidations_pkey", rows=2000, age=timedelta(0)),
    "cache/get_backlog": _one("cache_invalidations_pkey", rows=100),
    "cache/list_invalidations": _one("cache_invalidations_pkey", rows=100),
    "capi/close_writer": _one("queue_writers_pkey", **_WRITER),
    "capi/discard_rejected": _one("rejected_events_pkey", rejected_id=2500),
    "capi/list_rejected": _pages("rejected_events_pkey", after_id=2500),
    "capi/lock_writer": _one("queue_writers_pkey", rows=2, **_WRITER),
    # The row of the writer, and two of three head rows, which are there already.
    "capi/move_heads": _one("aggregates_pkey", "queue_writers_pkey", rows=3, **_TOGETHER, **_WRITER),
    "capi/reject": _one(rows=0, event_data=b"{", **_WRITER),
    "capi/reset_writer": _one("queue_writers_pkey", **_WRITER),
    # The row of the writer; of two streams the session, locked and then written, and the stream.
    "capi/store_stats": _one(
        "queue_writers_pkey", "stream_sessions_open_key", "streams_pkey", rows=8, **_STATS, **_WRITER
    ),
    "events/append_any": _one("aggregates_pkey"),
    "events/append_exact": _one("aggregates_pkey"),
    "events/append_existing": _one("aggregates_pkey"),
    "events/append_many_any": _one(*_HEAD_AND_ID, **_MANY),
    "events/append_many_exact": _one(*_HEAD_AND_ID, **_MANY),
    "events/append_many_existing": _one(*_HEAD_AND_ID, **_MANY),
    "events/append_many_new": _one(*_HEAD_AND_ID, rows=0, aggregate_id="new", **_MANY),
    "events/append_new": _one("aggregates_pkey", rows=0, aggregate_id="new"),
    # The head rows of two are locked, then moved; the third is made.
    "events/append_together": _one(*_HEAD_AND_ID, rows=4, **_TOGETHER),
    "events/close": _one("aggregates_pkey"),
    "events/count_events": _one("event_log_pkey", rows=30),
    "events/count_unsealed": _one(
        "event_log_position_idx", "event_segments_covers_idx", rows=200, after_position=119_900
    ),
    # Two ranges of thirty positions, one archived: ten segments, and ten erased events.
    "events/find_altered": (
        Plan(_SEALED, 60),
        Plan(_SEALED, 60, {"number": 1000}),
    ),
    "events/find_equal_snapshot": _one("snapshots_pkey"),
    "events/find_event_at": (Plan(_EVERYWHERE, 5), Plan(_EVERYWHERE, 5, {"position": 30_000})),
    "events/find_head": _one("aggregates_pkey"),
    # Three by their place, none by its id.
    "events/find_repeated": _one(
        "event_log_pkey", "event_log_event_id_key", rows=3, **{**_TOGETHER, "expected": 3}
    ),
    # Seventeen halvings of 120,000 positions, each with a way down the index, and to segments.
    "events/find_position": (
        Plan(_LOG, 70),
        Plan(_LOG, 70, {"at": datetime.now(UTC) + timedelta(seconds=5000)}),
    ),
    "events/find_last_seal": _one("event_seals_pkey"),
    "events/find_latest_snapshot": _pages("snapshots_pkey", rows=1, to_version=10_050),
    "events/find_sealed_position": _one(
        "event_log_position_idx", "event_segments_covers_idx", "event_seals_pkey", rows=5
    ),
    "events/get": (
        Plan({"event_log_pkey", "event_segments_pkey"}, 1),
        Plan({"event_log_pkey", "event_segments_pkey"}, 1, {**_ARCHIVED, "version": 2}),
    ),
    "events/get_version": _one("aggregates_pkey"),
    "events/list_heads": _one("aggregates_pkey", rows=2, **_TOGETHER),
    "events/move_heads": _one("aggregates_pkey", rows=2, **_TOGETHER),
    # The two that stay, and the head row for the foreign key; the older ones are found, locked and deleted.
    "events/keep_snapshot": (
        Plan({"snapshots_pkey"}, 5, {"version": 250, "keep": 2}),
        Plan({"snapshots_pkey"}, 62, {"version": 2050, "keep": 2}),
    ),
    # The snapshot, and half of the events to the next one, of which there are ten thousand.
    "events/load": (
        Plan(_LOADED, 52, {"to_version": 10_050, "limit": 256}),
        Plan(
            _LOADED,
            257,
            {"to_version": 10_050, "schema_version": 9, "limit": 256},
        ),
    ),
    "events/load_archived": _one("event_segments_pkey", rows=1, aggregate_id=ARCHIVED_AGGREGATE, limit=256),
    "events/prune_snapshots": _one("snapshots_pkey", rows=600),
    # Where all is archived: the segments of this user.
    "events/list_by_user": (
        Plan(_OF_USER, 102),
        Plan(_OF_USER, 102, {"before_position": 30_000}),
        Plan(_OF_USER, 5, _PLAIN),
        Plan(_OF_USER, 202, {"user_id": ARCHIVED_USER}),
    ),
    # Each closed aggregate and its last event.
    "events/list_archivable": (
        Plan({"aggregates_closed_idx", "event_log_pkey"}, 220, {"aggregate_type": None}),
        Plan(
            {"aggregates_closed_idx", "event_log_pkey"},
            220,
            {"aggregate_type": None, "after_type": "user", "after_id": "2"},
        ),
    ),
    "events/read_all_backward": (
        Plan(_EVERYWHERE, 104, {"since": None, "aggregate_type": None, "to_position": 59_000}),
        Plan(_EVERYWHERE, 320, {"since": None, "aggregate_type": "user", "to_position": 30_000}),
        Plan(_EVERYWHERE, 400, {"since": None, "aggregate_type": None, "to_position": 100_000}),
    ),
    "events/reopen": _one("aggregates_pkey"),
    # A filter costs what it passes over: a third of the events are of a user. Where nothing is archived one
    # segment is looked at, the next one; elsewhere those of a thousand positions.
    "events/read_all": (
        Plan(_LOG, 104, {"since": None, "aggregate_type": None}),
        Plan(_LOG, 320, {"since": None, "aggregate_type": "user", "after_position": 30_000}),
        Plan(_LOG, 400, {"since": None, "aggregate_type": None, "after_position": 59_950}),
        Plan(_LOG, 400, {"since": None, "aggregate_type": None, "after_position": 100_000}),
    ),
    "events/read_backward": _events(to_version=10_000),
    "events/read_forward": _events(after_version=10_000),
    # The event, and the head row that the foreign key asks for.
    "events/save_snapshot": _one(
        "event_log_pkey", "event_segments_pkey", "snapshots_pkey", rows=2, version=15_001
    ),
    # A hundred positions: 34 segments, as many erased events.
    "events/seal": (Plan(_SEALED, 150, {"to_position": 120_000}),),
    "events/verify_seal": (
        Plan(_SEALED | {"event_erasures_pkey"}, 60),
        Plan(_SEALED | {"event_erasures_pkey"}, 60, {"after_number": 1000}),
    ),
    # The stream that the foreign key asks for, and with a session that one.
    "recordings/create": (Plan(set(), 1), Plan(set(), 2, {"session_id": BUSY_SESSION})),
    "recordings/delete": _one("recordings_pkey"),
    "recordings/finish": _one("recordings_pkey"),
    "recordings/get": _one("recordings_pkey"),
    "recordings/list_by_session": (
        Plan({"recordings_session_id_idx"}, 100, {"session_id": BUSY_SESSION}),
        Plan({"recordings_session_id_idx"}, 100, {"session_id": BUSY_SESSION, "after_id": 16_000}),
        Plan({"recordings_session_id_idx"}, 3, {"session_id": BUSY_SESSION + 8}),
    ),
    "recordings/list_by_stream": _pages("recordings_pkey", sparse=_PLAIN, after_id=14_000),
    # One more: those of the same time are sorted by id, and the next one tells that there are no more.
    "recordings/list_expired": _pages("recordings_expires_at_idx", rows=101, now=_LAST_MONTH),
    "recordings/mark_processed": _one("recordings_pkey"),
    "recordings/set_available": _one("recordings_pkey"),
    # The user, and again for the foreign key.
    "sessions/create": _one("users_pkey", rows=2, token_hash=hashlib.sha256(b"new").digest()),
    # Each is found, and then deleted.
    "sessions/delete_expired": _one("sessions_expires_at_idx", "sessions_pkey", rows=2000),
    "sessions/list_active": (
        Plan({"sessions_user_id_idx", "users_pkey"}, 101),
        Plan({"sessions_user_id_idx", "users_pkey"}, 3, _PLAIN),
        Plan(
            {"sessions_user_id_idx", "users_pkey"},
            101,
            {"before_created_at": datetime.now(UTC) - timedelta(days=80), "before_hash": bytes(32)},
        ),
    ),
    "sessions/revoke": _one("sessions_pkey"),
    "sessions/revoke_all": _one("sessions_user_id_idx", user_id=PLAIN_USER, rows=2),
    "sessions/touch": _one("sessions_pkey", "users_pkey", rows=2),
    "sessions/validate": _one("sessions_pkey", "users_pkey", rows=2),
    "stream_sessions/add_bytes": _one("stream_sessions_open_key"),
    # The session is locked, then written.
    "stream_sessions/add_viewers": _one("stream_sessions_open_key", "streams_pkey", rows=3),
    "stream_sessions/get": _one("stream_sessions_pkey", session_id=BUSY_SESSION),
    "stream_sessions/get_current": _one("stream_sessions_open_key"),
    "stream_sessions/list": _pages("stream_sessions_pkey", sparse=_PLAIN, before_id=20_000),
    "streams/create": _one(stream_key="n" * 43),
    # With what goes with it, and the user, for the entry of its usage. The first one is on air.
    "streams/delete": (
        Plan({"stream_sessions_open_key", "streams_pkey"}, 6, {"stream_id": LIVE_STREAM}),
        Plan({"stream_sessions_open_key", "streams_pkey"}, 5, {"stream_id": PLAIN_STREAM}),
    ),
    "streams/get": _one("streams_pkey"),
    "streams/get_many": _one("streams_pkey", rows=3, stream_ids=[PLAIN_STREAM, BUSY_STREAM, LIVE_STREAM, 0]),
    "streams/find_id_by_key": _one("streams_stream_key_key"),
    "streams/get_info": _one("streams_pkey"),
    "streams/get_by_key": _one("streams_stream_key_key"),
    "streams/get_key": _one("streams_pkey"),
    "streams/is_live": _one("streams_pkey"),
    "streams/list_by_user": _pages("streams_user_id_idx", sparse=_PLAIN, after_id=10_000),
    "streams/list_live": (
        Plan({"streams_live_idx"}, 100),
        Plan({"streams_live_idx"}, 20, {"after_id": 10_000, "limit": 20}),
    ),
    # Locked, then written.
    "streams/rotate_key": _one("streams_pkey", rows=2, stream_key="n" * 43),
    # The stream is looked at, then written; the foreign keys ask for it and for the user.
    "streams/start": _one("stream_sessions_open_key", "streams_pkey", rows=4, stream_id=PLAIN_STREAM),
    "streams/stop": (
        Plan({"stream_sessions_open_key", "streams_pkey"}, 3),
        Plan({"stream_sessions_open_key", "streams_pkey"}, 3, {"session_id": 40_005}),
    ),
    "streams/update": _one("streams_pkey"),
    "streams/update_stats": _one("stream_sessions_open_key", "streams_pkey", rows=2),
    "projections/lock_checkpoints": _one("subscriptions_pkey", rows=8, name="subscription 7"),
    "projections/move_checkpoints": _one(
        "parked_events_pkey", "subscriptions_pkey", rows=620, name="subscription 7"
    ),
    "subscriptions/advance": _one("subscriptions_pkey", name="subscription 7"),
    "subscriptions/claim": _one(
        "subscription_members_pkey", "subscriptions_pkey", rows=60, name="subscription 7"
    ),
    "subscriptions/create": _one("subscriptions_pkey", rows=0, name="new"),
    "subscriptions/delete": _one(
        "parked_events_pkey", "subscriptions_pkey", rows=120, name="subscription 7", owner=None
    ),
    "subscriptions/discard_parked": _one("parked_events_pkey", name="subscription 7", position=57),
    "subscriptions/find_event": _one(*_EVERYWHERE, rows=4, position=30_000),
    "subscriptions/list_checkpoints": _one("subscriptions_pkey", rows=8, name="subscription 7"),
    "subscriptions/list_parked": _one("parked_events_pkey", rows=100, name="subscription 7"),
    "subscriptions/note_failure": _one("subscriptions_pkey", name="subscription 7"),
    "subscriptions/park": _one("parked_events_pkey", rows=0, name="new", event_type="E"),
    # One of eight partitions: eight are read for each that is wanted.
    "subscriptions/read": (
        Plan(_LOG, 1200, {"limit": 100, "aggregate_type": None, "to_position": 59_000}),
        Plan(_LOG, 104, {"limit": 100, "aggregate_type": None, "partitions": 1}),
        Plan(_LOG, 400, {"limit": 100, "aggregate_type": None, "partitions": 1, "after_position": 100_000}),
    ),
    "subscriptions/release": _one(
        "subscription_members_pkey", "subscriptions_pkey", rows=10, name="subscription 7"
    ),
    "subscriptions/reset": _one(
        "parked_events_pkey", "subscriptions_pkey", rows=120, name="subscription 7", position=4000
    ),
    "usage/check_users": _one("users_pkey", rows=3, user_ids=[1, 2, 19_999]),
    # One thousand a month.
    "usage/list_months": _one("usage_logs_pkey", rows=3001, tables=3),
    "usage/log": _one(),
    # Nine of the 27 days that have a thousand.
    "usage/total_by_stream": _one("usage_logs_stream_id_idx", rows=334, tables=1),
    "usage/total_by_user": _one("usage_logs_pkey", rows=334, tables=1),
    "users/create": _one(rows=0, username="somebody", email="somebody@example.com"),
    # With all that goes with them.
    "users/delete": _one("sessions_user_id_idx", "users_pkey", rows=10, user_id=PLAIN_USER),
    "users/find_credentials": (
        Plan({"users_email_key", "users_username_key"}, 1),
        Plan({"users_email_key", "users_username_key"}, 1, {"login": "USER1234"}),
    ),
    "users/finish_login": _one("users_pkey"),
    "users/get": _one("users_pkey"),
    "users/get_by_email": _one("users_email_key"),
    "users/get_by_username": _one("users_username_key"),
    "users/get_many": _one("users_pkey", rows=2, user_ids=[PLAIN_USER, BUSY_USER, 0]),
    "users/list": _pages("users_pkey", after_id=10_000),
    "users/list_streams": _one("streams_user_id_idx", user_id=PLAIN_USER),
    "users/lock": _one("users_pkey"),
    "users/lock_streams": _one("streams_user_id_idx", "stream_sessions_open_key", rows=2, user_id=PLAIN_USER),
    "users/record_login": _one("users_pkey"),
    # With the sessions that hang on it.
    "users/set_active": _one("users_pkey", rows=4, user_id=PLAIN_USER),
    "users/set_email": _one("users_pkey", email="somebody@example.com"),
    "users/set_password": _one("users_pkey"),
    "users/update_profile": _one("users_pkey"),
    "users/verify": _one("users_pkey"),
    "viewers/find_on_air": _one("stream_sessions_open_key"),
    # Three, of which one is on air no more: each session is locked, then written, then its stream.
    "viewers/flush": _one(
        "stream_sessions_open_key",
        "streams_pkey",
        rows=12,
        stream_ids=[BUSY_STREAM, LIVE_STREAM, PLAIN_STREAM],
        session_ids=[40_005, 40_011, 1],
        epochs=[1, 1, 1],
        joined=[2, 3, 4],
        peaks=[2, 3, 4],
        uniques=[2, 3, 4],
        currents=[2, 3, 4],
    ),
    "viewers/get_figures": _one("stream_sessions_open_key", "streams_pkey", rows=2),
    "viewers/list_on_air": (
        Plan({"stream_sessions_open_key", "streams_pkey"}, 200),
        Plan({"stream_sessions_open_key", "streams_pkey"}, 200, {"after_id": 10_000}),
    ),
    # All that are on air: their numbers change too often for an index.
    "viewers/list_top": (
        Plan({"streams_live_idx"}, 200, {"after_viewers": 2**63 - 1, "after_id": 2**63 - 1}),
        Plan({"streams_live_idx"}, 200, {"after_viewers": 0, "after_id": 10_000}),
    ),
}
