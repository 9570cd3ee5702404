"""The size of a page, the same for every list_ function."""

from __future__ import annotations

from typing import Final

from rootstream_store.errors import InvalidInput

__all__ = ["MAX_LIMIT", "check_limit"]

MAX_LIMIT: Final = 1000


def check_limit(limit: int, field: str = "limit", most: int = MAX_LIMIT) -> int:
    """`limit`, when it is an integer from 1 to `most`. Raises InvalidInput naming `field`."""
    if type(limit) is not int or not 1 <= limit <= most:
        raise InvalidInput(field, f"must be an integer from 1 to {most}", limit)
    return limit
