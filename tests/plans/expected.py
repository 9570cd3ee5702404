"""What each query may do on the populated database: the indexes that it uses, and the most rows that it reads."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from typing import Any, Final
from uuid import UUID

from ..factories import PASSWORD_HASH
from .population import (
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
    """The most rows that it may read, wanted or not, those that its triggers read among them: one for each foreign
    key that is checked."""
    values: Mapping[str, object] = field(default_factory=dict)
    """Where they differ from _VALUES."""
    tables: int | None = None
    """How many tables and partitions it may scan. None: as many as it likes."""


# Areas and queries without a plan worth guarding.
EXEMPT: Final = {
    "health/": "reads settings, no table",
    "maintenance/": "calls functions that change the schema, once a day",
    "metrics/": "reads the system catalogue",
    "migration/": "reads a ledger of some tens of rows, and the system catalogue",
    "usage/copy_logs": "COPY has no plan",
}

_LAST_MONTH = (datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)).replace(
    day=1
)

_VALUES: Final[dict[str, object]] = {
    "aggregate_id": BUSY_AGGREGATE,
    "aggregate_type": "stream",
    "after_id": 0,
    "after_version": 0,
    "avatar_url": None,
    "batch": 1000,
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
    "event_types": ["ViewerJoined"] * 3,
    "expected": 20_000,
    "expires_at": None,
    "file_path": "new file",
    "file_size_bytes": 1000,
    "fps": 60.0,
    "ip_address": IPv4Address("192.0.2.7"),
    "is_active": False,
    "is_available": False,
    "is_public": False,
    "is_recorded": True,
    "joined": 2,
    "kept_hash": None,
    "left": 1,
    "lifetime": timedelta(days=1),
    "limit": 100,
    "login": "uSER1234@example.com",
    "metadata": None,
    "month": None,
    "monthly_limit_gb": 50,
    "months": 3,
    "name": "stream",
    "now": None,
    "password_hash": PASSWORD_HASH,
    "payment_method": "card",
    "recording_id": 10_000,
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
    "to_version": 2**63 - 1,
    "token_hash": hashlib.sha256(b"29999").digest(),
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
    return {name: plan.values.get(name, known[name]) for name in parameters}


PLANS: Final[dict[str, tuple[Plan, ...]]] = {
    "billing/open": (Plan(set(), 1, {"user_id": 19_500}),),
    "recordings/list_by_session": (
        Plan({"recordings_session_id_idx"}, 100, {"session_id": BUSY_SESSION}),
        Plan({"recordings_session_id_idx"}, 100, {"session_id": BUSY_SESSION, "after_id": 14_000}),
        Plan({"recordings_session_id_idx"}, 100, {"session_id": 1, "stream_id": 2}),
    ),
    "sessions/list_active": (
        Plan({"sessions_user_id_idx"}, 100),
        Plan({"sessions_user_id_idx"}, 100, {"before_created_at": datetime.now(UTC)-timedelta(days=80), "before_hash": b"1"*32}),
    ),
    "sessions/create": (Plan({"users_pkey"}, 2, {"token_hash": hashlib.sha256(b"new").digest()}),),
    "streams/list_live": (
        Plan({"streams_live_idx"}, 100),
        Plan({"streams_live_idx"}, 10, {"limit": 10, "after_id": 10_000}),
    ),
    "streams/list_by_user": (
        Plan({"streams_user_id_idx"}, 100),
        Plan({"streams_user_id_idx"}, 100, {"after_id": 10_000}),
    ),
    "streams/create": (Plan(set(), 1, {"stream_key": "x"*43}),),
    "streams/rotate_key": (Plan(set(), 1, {"stream_key": "x"*43}),),
    "streams/start": (Plan(set(), 1, {"stream_id": PLAIN_STREAM}),),
    "streams/delete": (Plan(set(), 1, {"stream_id": LIVE_STREAM}),Plan(set(), 1, {"stream_id": PLAIN_STREAM}),Plan(set(), 1, {"stream_id": BUSY_STREAM})),
    "users/create": (Plan(set(), 1, {"username": "a", "email":"a@example.com"}),),
    "users/set_email": (Plan(set(), 1, {"email":"a@example.com"}),),
    "users/delete": (Plan(set(), 1, {"user_id": PLAIN_USER}),Plan(set(), 1, {"user_id": BUSY_USER})),
    "stream_sessions/list": (
        Plan({"sessions_user_id_idx"}, 100),
        Plan({"sessions_user_id_idx"}, 100, {"before_id": 20_000}),
    ),
    "stream_sessions/get": (Plan(set(), 1, {"session_id": BUSY_SESSION}),),
    "events/list_by_user": (
        Plan({"sessions_user_id_idx"}, 100),
        Plan({"sessions_user_id_idx"}, 100, {"before_position": 30_000}),
    ),
    "events/read_forward": (
        Plan({"sessions_user_id_idx"}, 100),
        Plan({"sessions_user_id_idx"}, 100, {"after_version": 10_000}),
    ),
    "events/read_backward": (
        Plan({"sessions_user_id_idx"}, 100),
        Plan({"sessions_user_id_idx"}, 100, {"to_version": 10_000}),
    ),
    "events/find_latest_snapshot": (
        Plan({"sessions_user_id_idx"}, 100),
        Plan({"sessions_user_id_idx"}, 100, {"to_version": 10_000}),
    ),
    "events/append_new": (
        Plan({"sessions_user_id_idx"}, 100, {"aggregate_id": "new"}),
    ),
    "events/append_many_new": (
        Plan({"sessions_user_id_idx"}, 100, {"aggregate_id": "new","event_data":"[{},{},{}]", "user_ids": [1,2,None]}),
    ),
    "events/append_many_any": (
        Plan({"sessions_user_id_idx"}, 100, {"event_data":"[{},{},{}]", "user_ids": [1,2,None]}),
    ),
    "events/append_many_exact": (
        Plan({"sessions_user_id_idx"}, 100, {"event_data":"[{},{},{}]", "user_ids": [1,2,None]}),
    ),
    "events/append_many_existing": (
        Plan({"sessions_user_id_idx"}, 100, {"event_data":"[{},{},{}]", "user_ids": [1,2,None]}),
    ),
    "users/list": (
        Plan({"sessions_user_id_idx"}, 100),
        Plan({"sessions_user_id_idx"}, 100, {"after_id": 10_000}),
    ),
    "recordings/list_by_stream": (
        Plan({"sessions_user_id_idx"}, 100),
        Plan({"sessions_user_id_idx"}, 100, {"after_id": 14_000}),
    ),
}
