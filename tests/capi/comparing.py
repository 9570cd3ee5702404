"""The outcome of a call in Python and of one in C, in the same terms."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Any

import msgspec

from rootstream_store import Store, events, migrations, sessions, streams, usage, viewers
from rootstream_store.capi._codes import CODES
from rootstream_store.errors import RootStreamError

from .binding import Failed, microseconds
from .header import functions

__all__ = ["outcome", "python_result", "strip"]

# What the C name gives is compared with what this gives, where functions.def names no repository function.
REFERENCES: dict[str, Callable[..., Any]] = {
    "session_create": lambda db, **given: (made := sessions.create(db, **given), made.token.reveal()),
    "session_list_active": lambda db, user_id, before_created_at, before_hash, limit: sessions.list_active(
        db, user_id, limit=limit
    ),
    "stream_create": lambda db, **given: (made := streams.create(db, **given), made.stream_key.reveal()),
    "stream_get_key": lambda db, **given: streams.get_key(db, **given).reveal(),
    "stream_rotate_key": lambda db, **given: streams.rotate_key(db, **given).reveal(),
    "usage_log_many": lambda db, entries: (
        usage.log_many(db, [usage.UsageEntry(**entry) for entry in entries]) * 0 or None
    ),
    "event_append": lambda db, event, **given: events.append(db, **given, **_read(event)),
    "event_append_many": lambda db, events_, **given: _last(
        events.append_many(db, events=[events.NewEvent(**_read(event)) for event in events_], **given)
    ),
    "event_get": lambda db, **given: [events.get(db, **given)],
    "event_load_snapshot": lambda db, **given: (
        None if (found := events.load_snapshot(db, **given)) is None else (found, json.dumps(found.state))
    ),
    "viewer_join": lambda db, expiry_ms, **given: viewers.join(db, **given, expiry=expiry_ms / 1000),
    "viewer_heartbeat": lambda db, expiry_ms, **given: viewers.heartbeat(
        db, **given, expiry=expiry_ms / 1000
    ),
    "viewer_set": lambda db, expiry_ms, **given: viewers.set(db, **given, expiry=expiry_ms / 1000),
    "viewer_top": lambda db, limit, after_id, after_viewers: viewers.top(db, limit=limit),
    "viewer_flush": lambda db: viewers.flush(db) and None,
    "migrate": lambda db, path, line: len(migrations.apply(db, path, line=line)),
}


def _read(event: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _raw(value) if name in ("data", "metadata") else value for name, value in event.items()}


def _last(appended: list[Any]) -> Any:
    return appended[-1] if appended else None


def _raw(value: object) -> bytes | None:
    return None if value is None else json.dumps(value).encode()


# Different each time, by the clock or by chance: only whether there is one is compared.
CHANCE = {
    "created_at",
    "updated_at",
    "last_login_at",
    "expires_at",
    "last_activity",
    "started_at",
    "ended_at",
}
CHANCE |= {"session_start", "session_end", "timestamp", "event_id", "token_hash", "duration_seconds", "as_of"}


def python_result(name: str, store: Store, values: Mapping[str, Any]) -> Any:
    if name in REFERENCES:
        renamed = {"events_" if key == "events" else key: value for key, value in values.items()}
        return REFERENCES[name](store, **renamed)
    module, _, attribute = functions()[name].path.partition(":")
    function = getattr(__import__(f"rootstream_store.{module}", fromlist=["_"]), attribute)
    given = {key: _raw(value) if key == "state" else value for key, value in values.items()}
    return function(store, **given)


def python_error(error: RootStreamError) -> tuple[int, dict[str, Any]]:
    code = CODES[type(error)]
    return code, {
        "message": "\n".join([str(error), *getattr(error, "__notes__", ())]),
        "sqlstate": error.sqlstate or "",
        "constraint": error.constraint or "",
        "field": str(getattr(error, "field", None) or ""),
        "retryable": error.retryable,
        "outcome_unknown": getattr(error, "outcome_unknown", False),
    }


def comparable(result: Any) -> Any:
    """In the terms of both sides."""
    if isinstance(result, list | tuple):
        return [comparable(part) for part in result]
    if isinstance(result, msgspec.Struct):
        result = {field: getattr(result, field) for field in result.__struct_fields__}
        for theirs, ours in (("event_data", "data_json"), ("metadata", "metadata_json")):
            if theirs in result:
                result[ours] = result.pop(theirs)
    if isinstance(result, dict):
        made = {key: comparable(value) for key, value in result.items()}
        for key in made:
            if key in CHANCE:
                made[key] = made[key] is not None
            elif key.endswith("_json") and isinstance(made[key], str):
                made[key] = json.loads(made[key])
        return made
    if isinstance(result, datetime | date):
        return microseconds(result)
    return result


def outcome(call: Callable[[], Any]) -> tuple[str, Any]:
    try:
        return "result", comparable(call())
    except Failed as failed:
        return "error", (failed.code, failed.details)
    except RootStreamError as error:
        return "error", python_error(error)


def strip(name: str, expected: Any, found: Any) -> Any:
    """Of what Python gave, the fields that the struct of C has."""
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        return [strip(name, one, other) for one, other in zip(expected, found, strict=True)]
    if isinstance(expected, dict) and isinstance(found, dict):
        return {key: value for key, value in expected.items() if key in found}
    if isinstance(expected, str) and len(expected) == 43 and "session" not in name:
        return found if isinstance(found, str) and len(found) == 43 else expected
    if isinstance(expected, bool):
        return int(expected)
    return expected
