"""Refusing arguments that could never work, before a file is read or a server is asked."""

from __future__ import annotations

import os

from rootstream_store.errors import InvalidInput, SettingsError
from rootstream_store.settings import Settings

__all__ = ["check_database", "check_path", "check_seconds", "check_version"]

_LONGEST = (2**31 - 1) // 1000
"""Seconds: PostgreSQL keeps times as 32-bit integers of milliseconds."""


def check_database(db: object) -> None:
    """Raises InvalidInput for what is neither a connection string nor has settings, SettingsError for a
    string that libpq would cut short or could not be given. Never shows it: it may hold a password."""
    if not isinstance(db, str):
        if not isinstance(getattr(db, "settings", None), Settings):
            raise InvalidInput("db", f"must be a store or a connection string, not {type(db).__name__}")
        return
    if "\0" in db:
        raise SettingsError("database_url must not contain NUL")
    try:
        db.encode()
    except UnicodeEncodeError:
        # The cause is dropped: it carries the string.
        raise SettingsError(
            "database_url must be text that UTF-8 can hold (it has a lone surrogate)"
        ) from None


def check_path(path: object) -> None:
    """Raises InvalidInput for what cannot be the path of a directory. None is the library's own."""
    if path is None:
        return
    if not isinstance(path, str | os.PathLike):
        raise InvalidInput("path", f"must be a path or None, not {type(path).__name__}")
    try:
        possible = b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        possible = False
    if not possible:
        raise InvalidInput("path", "must be a path that the file system can have", str(path))


def check_seconds(**values: object) -> None:
    """Raises InvalidInput naming the first value that is no time."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InvalidInput(name, f"must be a number of seconds, not {type(value).__name__}")
        if not 0 <= value <= _LONGEST:  # nan too
            shown = value if isinstance(value, float) else None  # Python refuses to write too long an integer
            raise InvalidInput(name, f"must be a number of seconds from 0 to {_LONGEST}", shown)


def check_version(**values: object) -> None:
    """Raises InvalidInput naming the first value that is no integer."""
    for name, value in values.items():
        if type(value) is not int:
            raise InvalidInput(name, f"must be the number of a version, not {type(value).__name__}")
