"""What users consumed: an append-only log in monthly partitions, and its sums."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec

from rootstream_store._limit import check_limit
from rootstream_store._rules import RULES
from rootstream_store.db import Db, repository
from rootstream_store.errors import InvalidInput, NotFound
from rootstream_store.flow import Flow, one
from rootstream_store.queries import query
from rootstream_store.records import MonthlyUsage, UsageTotal

__all__ = ["UsageEntry", "list_months", "log", "log_many", "total_by_stream", "total_by_user"]


class UsageEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One entry to log; see `log`."""

    user_id: int
    event_type: str
    stream_id: int | None = None
    bytes_transferred: int = 0
    duration_seconds: int = 0
    created_at: datetime | None = None
    """None: the time of the call."""


class _Check(msgspec.Struct):
    now: datetime
    unknown_user_id: int | None


_LOG = query("usage/log", int)
_CHECK_USERS = query("usage/check_users", _Check)
_COPY_LOGS = query("usage/copy_logs")
_COPY_TYPES = ("int8", "timestamptz", "int8", "text", "int8", "int8")
_TOTAL_BY_USER = query("usage/total_by_user", UsageTotal)
_TOTAL_BY_STREAM = query("usage/total_by_stream", UsageTotal)
_LIST_MONTHS = query("usage/list_months", MonthlyUsage)

_MAX_MONTHS = 1200
# The CHECK constraints of usage_logs: COPY tells which one failed, but not for which row.
_EVENT_TYPE = re.compile(r"[a-z][a-z0-9_]{0,63}")


@repository
def log(
    db: Db,
    user_id: int,
    *,
    event_type: str,
    stream_id: int | None = None,
    bytes_transferred: int = 0,
    duration_seconds: int = 0,
    created_at: datetime | None = None,
) -> int:
    """Logs what a user consumed and returns the id of the entry.

    `event_type`: stream_start, stream_end, viewer_join, viewer_leave or a name of your own: up to 64
    lower-case letters, digits and underscores, a letter first. `stream_id`: the entry stays when that stream
    is deleted; None: of no stream. `created_at`: when it happened; None: now. Raises NotFound for an unknown
    user, InvalidInput.
    """
    return db.one(
        _LOG,
        user_id=user_id,
        event_type=event_type,
        stream_id=stream_id,
        bytes_transferred=bytes_transferred,
        duration_seconds=duration_seconds,
        created_at=created_at,
    )


@repository
def log_many(db: Db, entries: Iterable[UsageEntry]) -> int:
    """Logs many entries by COPY, all or none, and returns how many. They are held in memory meanwhile.

    Raises as `log`, and names the entry by its index, from 0: InvalidInput for "entries[2].event_type",
    NotFound with the user's id and the index in its `key`.
    """
    if not isinstance(entries, Iterable):
        raise InvalidInput("entries", "must be an iterable of UsageEntry", repr(type(entries)))
    return db.flow(_log_many(list(entries)))


@repository
def total_by_user(db: Db, user_id: int, *, since: datetime, until: datetime) -> UsageTotal:
    """What a user consumed from `since` up to, and without, `until`; zeros when there was nothing.

    A sum above 2^63-1, here and in the other functions, is told as 2^63-1.
    """
    return db.one(_TOTAL_BY_USER, user_id=user_id, **_span(since, until))


@repository
def total_by_stream(db: Db, stream_id: int, *, since: datetime, until: datetime) -> UsageTotal:
    """What was consumed through a stream from `since` up to, and without, `until`; zeros when nothing."""
    return db.one(_TOTAL_BY_STREAM, stream_id=stream_id, **_span(since, until))


@repository
def list_months(db: Db, user_id: int, *, months: int = 12) -> list[MonthlyUsage]:
    """A user's consumption in the last `months` calendar months (UTC), the current one among them.

    Newest first; months without any are left out. `months`: 1 to 1200.
    """
    return db.all(_LIST_MONTHS, user_id=user_id, months=check_limit(months, "months", _MAX_MONTHS))


def _log_many(entries: list[UsageEntry]) -> Flow[int]:
    for index, entry in enumerate(entries):
        _check(entry, f"entries[{index}]")
    if not entries:
        return 0
    found = yield from one(_CHECK_USERS, user_ids=sorted({entry.user_id for entry in entries}))
    if found.unknown_user_id is not None:
        index = next(i for i, entry in enumerate(entries) if entry.user_id == found.unknown_user_id)
        raise NotFound("user", {"user_id": found.unknown_user_id, "entry": index}, query=_COPY_LOGS.file)
    rows = (
        (
            entry.user_id,
            entry.created_at or found.now,
            entry.stream_id,
            entry.event_type,
            entry.bytes_transferred,
            entry.duration_seconds,
        )
        for entry in entries
    )
    copied: int = yield lambda db: db.copy(_COPY_LOGS, rows, _COPY_TYPES)
    return copied


def _check(entry: UsageEntry, name: str) -> None:
    if not isinstance(entry, UsageEntry):
        raise InvalidInput(name, "must be a UsageEntry", entry, query=_COPY_LOGS.file)
    try:
        _LOG.check(msgspec.structs.asdict(entry))
        for field in ("user_id", "event_type", "bytes_transferred", "duration_seconds"):
            if getattr(entry, field) is None:
                raise InvalidInput(field, "must not be null")
        for field in ("bytes_transferred", "duration_seconds"):
            if getattr(entry, field) < 0:
                raise InvalidInput(field, RULES[f"usage_logs_{field}_range"], getattr(entry, field))
        if not _EVENT_TYPE.fullmatch(entry.event_type):
            raise InvalidInput("event_type", RULES["usage_logs_event_type_format"], entry.event_type)
    except InvalidInput as error:
        raise InvalidInput(f"{name}.{error.field}", error.rule, error.value, query=_COPY_LOGS.file) from error


def _span(since: datetime, until: datetime) -> dict[str, Any]:
    span = {"since": since, "until": until}
    for name, moment in span.items():
        if not isinstance(moment, datetime) or moment.tzinfo is None:
            raise InvalidInput(name, "must be a time with time zone", moment)
    if until <= since:
        raise InvalidInput("until", "must lie after since", until)
    return span
