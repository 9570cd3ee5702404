"""Which Python values fit a PostgreSQL type, and the words for those that do not."""

from __future__ import annotations

import datetime
import ipaddress
import math
import re
import uuid
from collections.abc import Callable
from typing import get_args

from rootstream_store.errors import QueryError

__all__ = ["rule_of"]

_INT8 = range(-(2**63), 2**63)


def _is_text(value: object) -> bool:
    # NUL cannot be stored and was silently cut by C strings; a lone surrogate has no UTF-8.
    if not isinstance(value, str) or "\0" in value:
        return False
    try:
        value.isascii() or value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_int8(value: object) -> bool:
    return type(value) is int and value in _INT8


def _is_aware(value: object) -> bool:
    if not isinstance(value, datetime.datetime) or value.utcoffset() is None:
        return False
    if datetime.MINYEAR < value.year < datetime.MAXYEAR:
        return True
    # PostgreSQL would keep the year 0 or 10000 in UTC, and no Python could read the row again.
    try:
        value.astimezone(datetime.UTC)
    except OverflowError:
        return False
    return True


def _is_number(value: object) -> bool:
    # NaN is the largest number of all to PostgreSQL, infinity the next: neither is a measurement.
    return math.isfinite(value) if type(value) is float else _is_int8(value)


def _array_of(fits: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, list | tuple) and all(item is None or fits(item) for item in value)


def _instance(*types: type) -> Callable[[object], bool]:
    return lambda value: isinstance(value, types)


def _is_address(value: object) -> bool:
    # PostgreSQL has no zones ("%eth0"): psycopg would drop it silently.
    return isinstance(value, _IP) and getattr(value, "scope_id", None) is None


_IP = get_args(
    ipaddress.IPv4Address | ipaddress.IPv6Address | ipaddress.IPv4Interface | ipaddress.IPv6Interface
)

# PostgreSQL type → (test, rule told when it fails)
_RULES: dict[str, tuple[Callable[[object], bool], str]] = {
    "bigint": (_is_int8, "must be an integer from -2^63 to 2^63-1"),
    "integer": (
        lambda v: type(v) is int and -(2**31) <= v < 2**31,
        "must be an integer from -2^31 to 2^31-1",
    ),
    "double precision": (_is_number, "must be a finite number"),
    "text": (_is_text, "must be text without NUL that is valid Unicode"),
    "jsonb": (_is_text, "must be JSON text"),
    "boolean": (_instance(bool), "must be true or false"),
    "bytea": (_instance(bytes), "must be bytes"),
    "uuid": (_instance(uuid.UUID), "must be a UUID"),
    "inet": (_is_address, "must be an IP address without a zone"),
    "date": (lambda v: type(v) is datetime.date, "must be a date"),
    "timestamptz": (_is_aware, "must be a time with time zone, in UTC from the year 1 to 9999"),
    "interval": (_instance(datetime.timedelta), "must be a time span"),
}


def rule_of(cast: str) -> tuple[type | None, Callable[[object], bool] | None, str]:
    """(type that is right without a further test, test, rule) for a declared type."""
    element = re.sub(r"(\[\])+$", "", cast)
    if element not in _RULES:
        raise QueryError(
            f"type {cast!r} is not known to the checker; known: {', '.join(sorted(_RULES))}, and arrays"
        )
    fits, rule = _RULES[element]
    if element != cast:
        return None, _array_of(fits), f"each {rule}"
    exact = {"boolean": bool, "bytea": bytes, "uuid": uuid.UUID}.get(cast)
    return exact, (None if exact else fits), rule
