"""From the texts that PostgreSQL sends to JSON that keeps their types."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator

import msgspec
from psycopg.postgres import types
from psycopg.pq.abc import PGresult

__all__ = ["rows_to_json"]

_quote = msgspec.json.Encoder().encode
_NUMBER = re.compile(rb"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
# What PostgreSQL writes with DateStyle ISO: "2026-11-29 09:00:00.5+00", and for some old dates "+00:19:32".
_TIME = re.compile(rb"(\d{4,}-\d\d-\d\d) (\d\d:\d\d:\d\d(?:\.\d+)?)([+-]\d\d)?(:\d\d)?(:\d\d)?")

_Convert = Callable[[bytes], bytes]


def rows_to_json(result: PGresult) -> bytes:
    """The rows as a JSON array of objects. A second column of the same name is called name_2."""
    columns = range(result.nfields)
    names = [_quote(name) + b":" for name in _distinct(result)]
    converts = [_converter(result.ftype(column)) for column in columns]
    rows = []
    for row in range(result.ntuples):
        cells = []
        for column in columns:
            value = result.get_value(row, column)
            cells.append(names[column] + (b"null" if value is None else converts[column](value)))
        rows.append(b"{%s}" % b",".join(cells))
    return b"[%s]" % b",".join(rows)


def _distinct(result: PGresult) -> Iterator[str]:
    given = [(result.fname(column) or b"").decode(errors="replace") for column in range(result.nfields)]
    taken: set[str] = set()
    for name in given:
        number, candidate = 1, name
        while candidate in taken or (number > 1 and candidate in given):
            number += 1
            candidate = f"{name}_{number}"
        taken.add(candidate)
        yield candidate


def _text(value: bytes) -> bytes:
    return _quote(value.decode(errors="replace"))


def _number(value: bytes) -> bytes:
    # NaN and Infinity are no numbers of JSON: they are told as texts, not lost as null.
    return value if _NUMBER.fullmatch(value) else _text(value)


def _boolean(value: bytes) -> bytes:
    return b"true" if value == b"t" else b"false"


def _json(value: bytes) -> bytes:
    return value


def _bytes(value: bytes) -> bytes:
    if not value.startswith(b"\\x"):  # bytea_output was set to escape
        return _text(value)
    return b'"%s"' % base64.b64encode(bytes.fromhex(value.removeprefix(b"\\x").decode()))


def _time(value: bytes) -> bytes:
    match = _TIME.fullmatch(value)
    if match is None:  # infinity, years BC, another DateStyle
        return _text(value)
    day, time, hours, minutes, seconds = match.groups()
    zone = b"" if hours is None else hours + (minutes or b":00") + (seconds or b"")
    return b'"%sT%s%s"' % (day, time, zone)


_BY_NAME: dict[str, _Convert] = {
    **dict.fromkeys(("int2", "int4", "int8", "oid", "float4", "float8", "numeric"), _number),
    **dict.fromkeys(("json", "jsonb"), _json),
    **dict.fromkeys(("timestamp", "timestamptz"), _time),
    "bool": _boolean,
    "bytea": _bytes,
}


def _converter(oid: int) -> _Convert:
    info = types.get(oid)
    if info is None:
        return _text
    convert = _BY_NAME.get(info.name, _text)
    if info.oid == oid:
        return convert
    return _array_of(convert, info.delimiter.encode())


# An element: in quotes with backslashes, or bare up to a delimiter or brace.
_QUOTED = re.compile(rb'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPE = re.compile(rb"\\(.)", re.DOTALL)


def _array_of(convert: _Convert, delimiter: bytes) -> _Convert:
    bare = re.compile(rb"[^{}\"" + re.escape(delimiter) + rb"]+")

    def to_json(value: bytes) -> bytes:
        # "[0:1]={1,2}": bounds other than 1 are not told.
        at = value.index(b"{")
        parts: list[bytes] = []
        while at < len(value):
            mark = value[at : at + 1]
            if mark == b'"':
                match = _QUOTED.match(value, at)
                assert match is not None
                parts.append(convert(_ESCAPE.sub(rb"\1", match[1])))
            elif mark in (b"{", b"}", delimiter):
                parts.append({b"{": b"[", b"}": b"]"}.get(mark, b","))
                at += 1
                continue
            else:
                match = bare.match(value, at)
                assert match is not None
                parts.append(b"null" if match[0] == b"NULL" else convert(match[0]))
            at = match.end()
        return b"".join(parts)

    return to_json
