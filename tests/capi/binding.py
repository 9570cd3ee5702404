"""The library in the process of the test, called by the names of functions.def.

So a test names a function and its values once, and the same go to Python and to C.
"""

from __future__ import annotations

import ctypes
import json
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

from rootstream_store import UNSET, events

from .header import constants, functions, header_text, structs
from .native import library

__all__ = ["Failed", "Native", "microseconds"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NONE = -(2**63)
NONE_F64 = -1.7976931348623157e308
KEEP_F64 = -1.7976931348623155e308
KEEP_TEXT = ctypes.c_void_p(-1)
EXPECTED = {events.ANY: -1, events.NO_STREAM: -2, events.EXISTS: -3}


class Failed(Exception):  # what a call did, not an error of the test
    """A call of C gave a negative code."""

    def __init__(self, code: int, details: dict[str, Any]) -> None:
        super().__init__(code, details)
        self.code = code
        self.details = details


def microseconds(moment: datetime | date) -> int:
    """Since 1970."""
    if not isinstance(moment, datetime):
        moment = datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
    return (moment - EPOCH) // timedelta(microseconds=1)


class Native:
    """The library in this process, called by the names of functions.def."""

    def __init__(self) -> None:
        self.c = ctypes.CDLL(str(library()))
        self.c.rss_last_error.restype = ctypes.POINTER(structs()["rss_error"])
        for name in ("rss_rows_count",):
            getattr(self.c, name).restype = ctypes.c_int64
        self._prototypes = {
            name: [parameter.strip() for parameter in " ".join(parameters.split()).split(",")]
            for name, parameters in re.findall(r"^\w+ \*?(rss_\w+)\(([^)]*)\);", header_text(), re.MULTILINE)
        }
        self._check(self.c.rss_init(None))

    def open(self, database_url: str, redis_url: str) -> ctypes.c_void_p:
        """A store."""
        store = ctypes.c_void_p()
        self._check(self.c.rss_open(database_url.encode(), redis_url.encode(), None, ctypes.byref(store)))
        return store

    def close(self, store: ctypes.c_void_p) -> None:
        """Ends it."""
        self._check(self.c.rss_close(store, ctypes.c_int64(5000)))

    def call(self, name: str, handle: ctypes.c_void_p, values: Mapping[str, Any]) -> Any:
        """What the function gives: one value, or a tuple in the order of functions.def. Raises Failed."""
        function = functions()[name]
        public = {"query": "rss_query_json", "migration_status": "rss_migration_status_json"}.get(
            name, f"rss_{name}"
        )
        parameters = self._prototypes[public][1:]
        given: list[Any] = []
        for letter, argument in function.arguments:
            given += _to_c(letter, values[argument])
        if name == "session_list_active":  # one struct in place of what names its row
            given[1:3] = [_session(values)]
        if name == "viewer_top":
            given[1:3] = [_ranked(values)]
        outputs = [_Output(kind) for kind in _outputs(parameters[len(given) :])]
        code = getattr(self.c, public)(handle, *given, *(part for output in outputs for part in output.given))
        self._check(code)
        if code == constants()["RSS_NOTHING"]:
            return None
        results = {output.kind: self._read(output, function.result) for output in outputs}
        if function.result.endswith("none"):
            return None
        parts = [results[part.partition(":")[0]] for part in function.result.lstrip("?").split()]
        return parts[0] if len(parts) == 1 else tuple(parts)

    def rows(self, record: str, rows: ctypes.c_void_p) -> list[dict[str, Any]]:
        """All rows, which are ended."""
        name = {"monthly_usage": "usage_month"}.get(record, record)
        found = []
        while True:
            row = _new(f"rss_{record}")
            code = getattr(self.c, f"rss_{name}_next")(rows, ctypes.byref(row))
            self._check(code)
            if code == constants()["RSS_NOTHING"]:
                break
            found.append(as_dict(row))
        assert self.c.rss_rows_count(rows) == len(found)
        self._check(self.c.rss_rows_free(rows))
        return found

    def _read(self, output: _Output, result: str) -> Any:
        if output.kind == "rows":
            return self.rows(result.partition(":")[2], output.value)
        if output.kind == "text":
            text = ctypes.string_at(output.value)
            self.c.rss_free(output.value)
            return text.decode()
        if output.kind == "bytes":
            data = ctypes.string_at(output.value, output.size.value)
            self.c.rss_free(output.value)
            return data
        if output.kind == "secret":
            return output.value.value.decode()
        if output.kind == "subscription":
            return output.value
        return as_dict(output.value) if isinstance(output.value, ctypes.Structure) else output.value.value

    def _check(self, code: int) -> None:
        if code >= 0:
            return
        error = self.c.rss_last_error().contents
        assert error.code == code
        details = {
            "message": error.message.decode(),
            "sqlstate": error.sqlstate.decode(),
            "constraint": error.constraint.decode(),
            "field": error.field.decode(),
            "retryable": bool(error.retryable),
            "outcome_unknown": bool(error.outcome_unknown),
        }
        raise Failed(code, details)


def as_dict(struct: ctypes.Structure) -> dict[str, Any]:
    """The fields, with None for what is none."""
    found: dict[str, Any] = {}
    names = [name for name, *_ in struct._fields_]
    for name in names:
        if name in ("struct_size", "truncated", "reserved") or name.startswith("has_"):
            continue
        value = getattr(struct, name)
        if isinstance(value, ctypes.Array):
            value = bytes(value)
        elif isinstance(value, bytes):
            value = value.decode()
            if f"has_{name}" in names and not getattr(struct, f"has_{name}"):
                assert value == ""
                value = None
        elif value in (NONE, NONE_F64):
            value = None
        found[name] = value
    assert not struct.truncated
    return found


def _new(name: str) -> Any:
    struct = structs()[name]()
    # As what a caller's stack may hold.
    ctypes.memset(ctypes.byref(struct), 0xAA, ctypes.sizeof(struct))
    struct.struct_size = ctypes.sizeof(struct)
    return struct


class _Output:
    """A place for one result."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.size = ctypes.c_size_t()
        if kind == "int":
            self.value: Any = ctypes.c_int64()
        elif kind == "flag":
            self.value = ctypes.c_int()
        elif kind in ("text", "rows", "bytes", "subscription"):
            self.value = ctypes.c_void_p()
        elif kind == "secret":
            self.value = ctypes.create_string_buffer(constants()["RSS_TOKEN_SIZE"])
            self.given = [self.value, ctypes.c_size_t(len(self.value))]
            return
        else:
            self.value = _new(f"rss_{kind}")
        self.given = [ctypes.byref(self.value)]
        if kind == "bytes":
            self.given.append(ctypes.byref(self.size))


def _outputs(parameters: list[str]) -> list[str]:
    kinds = []
    skip = False
    for number, parameter in enumerate(parameters):
        if skip:
            skip = False
            continue
        following = parameters[number + 1] if number + 1 < len(parameters) else ""
        if parameter.startswith("char **") and following.startswith("size_t *"):
            kinds.append("bytes")
            skip = True
        elif parameter.startswith("char **"):
            kinds.append("text")
        elif parameter.startswith("char *"):
            kinds.append("secret")
            skip = True
        elif parameter.startswith("rss_rows **"):
            kinds.append("rows")
        elif parameter.startswith("rss_subscription **"):
            kinds.append("subscription")
        elif parameter.startswith("int64_t *"):
            kinds.append("int")
        elif parameter.startswith("int *"):
            kinds.append("flag")
        else:
            match = re.match(r"(?:struct )?rss_(\w+) \*", parameter)
            assert match is not None, parameter
            kinds.append(match[1])
    return kinds


def _text(value: str | bytes | None) -> ctypes.c_char_p:
    return ctypes.c_char_p(value.encode() if isinstance(value, str) else value)


def _to_c(letter: str, value: Any) -> list[Any]:
    """The C arguments for a value of Python."""
    if letter in "lnk":
        number = NONE if value is None else NONE + 1 if value is UNSET else value
        return [ctypes.c_int64(number)]
    if letter in "fh":
        return [ctypes.c_double(NONE_F64 if value is None else KEEP_F64 if value is UNSET else value)]
    if letter in "bg":
        return [ctypes.c_int(-1 if value is UNSET else int(value))]
    if letter in "sv":
        return [KEEP_TEXT if value is UNSET else _text(value)]
    if letter == "j":
        return [_text(None if value is None else json.dumps(value))]
    if letter == "u":
        return [_text(None if value is None else str(value))]
    if letter in "tm":
        if isinstance(value, int):
            return [ctypes.c_int64(value)]
        return [ctypes.c_int64(NONE if value is None else microseconds(value))]
    if letter == "w":
        return [ctypes.c_int64(int(value.total_seconds()))]
    if letter == "y":
        return [_text(value), ctypes.c_size_t(len(value))]
    if letter == "z":
        return [_text(value)]
    if letter == "e":
        return [ctypes.c_int64(EXPECTED.get(value, value))]
    if letter == "N":
        return [ctypes.byref(_event(value))]
    if letter in "EU":
        read = _event if letter == "E" else _entry
        kind = structs()["rss_new_event" if letter == "E" else "rss_usage_entry"]
        return [(kind * len(value))(*map(read, value)), ctypes.c_size_t(len(value))]
    raise AssertionError(letter)


def _session(values: Mapping[str, Any]) -> Any:
    if values["before_hash"] is None:
        return None
    before = _new("rss_session")
    before.created_at = values["before_created_at"]
    before.token_hash = (ctypes.c_ubyte * 32)(*values["before_hash"])
    return ctypes.byref(before)


def _ranked(values: Mapping[str, Any]) -> Any:
    if values["after_id"] is None:
        return None
    after = _new("rss_ranked_stream")
    after.stream_id, after.viewers = values["after_id"], values["after_viewers"]
    return ctypes.byref(after)


def _event(value: Mapping[str, Any]) -> ctypes.Structure:
    made = _new("rss_new_event")
    made.event_type = _text(value["event_type"])
    made.data_json = _text(json.dumps(value["data"]))
    made.metadata_json = _text(None if value.get("metadata") is None else json.dumps(value["metadata"]))
    made.user_id = NONE if value.get("user_id") is None else value["user_id"]
    for name in ("event_id", "correlation_id", "causation_id"):
        given: UUID | str | None = value.get(name)
        setattr(made, name, _text(None if given is None else str(given)))
    return made  # type: ignore[no-any-return]  # a Structure


def _entry(value: Mapping[str, Any]) -> ctypes.Structure:
    made = _new("rss_usage_entry")
    made.user_id = value["user_id"]
    made.event_type = _text(value["event_type"])
    made.stream_id = NONE if value.get("stream_id") is None else value["stream_id"]
    made.bytes_transferred = value.get("bytes_transferred", 0)
    made.duration_seconds = value.get("duration_seconds", 0)
    at = value.get("created_at")
    made.created_at = NONE if at is None else microseconds(at)
    return made  # type: ignore[no-any-return]  # a Structure
