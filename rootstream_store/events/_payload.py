"""From Python values to the JSON text that is stored. It comes back as jsonb keeps it: numbers by value, not
by kind (1e16 as an integer), and of keys that raw JSON has twice the last."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from rootstream_store.errors import InvalidInput

__all__ = ["MAX_PAYLOAD_BYTES", "MAX_PAYLOAD_DEPTH", "to_json", "to_json_at_once"]

MAX_PAYLOAD_BYTES = 1024 * 1024
"""Largest JSON text of one event's data, one event's metadata or one snapshot's state, in bytes of UTF-8."""

MAX_PAYLOAD_DEPTH = 100
"""Most levels of objects and arrays within one another. How many Python reads depends on how deep its own
calls are: what one caller writes, all others must be able to read."""

_encode_json = msgspec.json.Encoder().encode
_encode_lines = msgspec.json.Encoder().encode_lines
_UNENCODABLE = (TypeError, ValueError, OverflowError, RecursionError)
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')
_BRACKETS = bytes.maketrans(b"[]", b"{}")
_NO_BRACKETS = bytes(set(range(256)) - set(b"{}[]"))
_LINE = b"\n"
_NOT_OPENING = bytes(set(range(256)) - set(b"{[\n"))
# The escape of U+0000, which jsonb cannot hold, and not a backslash that is followed by the letters u0000.
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


def to_json(value: object, field: str) -> str:
    """The JSON of `value`: a dict, list, dataclass or msgspec.Struct, or bytes that are JSON already.

    Raises InvalidInput, with `field` as the name of the value, for what is no JSON object or array, for NaN
    and infinities, U+0000, lone surrogates, invalid UTF-8, more than MAX_PAYLOAD_BYTES, and more levels than
    MAX_PAYLOAD_DEPTH.
    """
    if type(value) is dict:
        # What most payloads are, with nothing in them that must be looked at twice.
        with contextlib.suppress(*_UNENCODABLE):  # told below
            encoded = _encode_json(value)
            if (
                len(encoded) <= MAX_PAYLOAD_BYTES
                and b"null" not in encoded
                and b"\\u0000" not in encoded
                and encoded.count(b"{") + encoded.count(b"[") <= MAX_PAYLOAD_DEPTH
            ):
                return encoded.decode()
    if isinstance(value, bytes | bytearray | memoryview | msgspec.Raw):
        encoded = _checked(bytes(value), field)
    else:
        encoded = _encode(value, field)
    if len(encoded) > MAX_PAYLOAD_BYTES:
        raise InvalidInput(field, f"may be at most {MAX_PAYLOAD_BYTES} bytes of JSON, not {len(encoded)}")
    if not encoded.startswith((b"{", b"[")):
        raise InvalidInput(field, "must be a JSON object or array; JSON text is given as bytes")
    if _is_too_deep(encoded):
        raise InvalidInput(field, f"may be nested at most {MAX_PAYLOAD_DEPTH} levels deep")
    if b"\\u0000" in encoded and _NUL.search(encoded):
        raise InvalidInput(field, "must not contain the character U+0000")
    try:
        return encoded.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(field, f"must be valid UTF-8: {error}") from error


def to_json_at_once(values: Sequence[object]) -> str | None:
    """The JSON array of the payloads; None when one of them must be looked at by itself, with `to_json`."""
    if not all(type(value) is dict for value in values):
        return None
    with contextlib.suppress(*_UNENCODABLE):  # told of the one at fault
        lines = _encode_lines(values)
        if (
            len(lines) <= MAX_PAYLOAD_BYTES
            and b"null" not in lines
            and b"\\u0000" not in lines
            # No payload is deeper than it has brackets, those in its texts included.
            and max(map(len, lines.translate(None, _NOT_OPENING).split(_LINE))) <= MAX_PAYLOAD_DEPTH
        ):
            return f"[{lines[:-1].replace(_LINE, b',').decode()}]"
    return None


def _encode(value: object, field: str) -> bytes:
    try:
        encoded = _encode_json(value)
        # The encoder writes null for them without a word.
        if b"null" in encoded and _has_non_finite(value):
            raise InvalidInput(field, "must not contain NaN or an infinity: JSON has none")
    except InvalidInput:
        raise
    except RecursionError as error:
        raise InvalidInput(field, "is nested too deeply, or contains itself") from error
    except UnicodeEncodeError as error:
        raise InvalidInput(field, f"must be valid Unicode: {error}") from error
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInput(field, f"cannot be written as JSON: {error}") from error
    return encoded


def _checked(raw: bytes, field: str) -> bytes:
    try:
        msgspec.json.decode(raw)
    except RecursionError as error:
        raise InvalidInput(field, "is nested too deeply") from error
    except ValueError as error:
        raise InvalidInput(field, f"must be JSON: {error}") from error
    return raw.strip()


def _is_too_deep(encoded: bytes) -> bool:
    if encoded.count(b"{") + encoded.count(b"[") <= MAX_PAYLOAD_DEPTH:
        return False
    brackets = _STRING.sub(b"", encoded).translate(_BRACKETS, _NO_BRACKETS)
    # Each round takes the innermost level away.
    for _ in range(MAX_PAYLOAD_DEPTH):
        brackets = brackets.replace(b"{}", b"")
        if not brackets:
            return False
    return True


def _has_non_finite(value: object) -> bool:
    # enc_hook: for msgspec.Raw, which is JSON already and cannot hold one.
    pending: list[Any] = [msgspec.to_builtins(value, enc_hook=lambda _: None)]
    while pending:
        item = pending.pop()
        if isinstance(item, float):
            if not math.isfinite(item):
                return True
        elif isinstance(item, dict):
            pending.extend(item.values())
        elif isinstance(item, list | tuple | set | frozenset):
            pending.extend(item)
    return False
