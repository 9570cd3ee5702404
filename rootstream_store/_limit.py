"""The size of a page, the same for every list_ function and every list of ids."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from rootstream_store.errors import InvalidInput

__all__ = ["MAX_LIMIT", "check_ids", "check_limit"]

MAX_LIMIT: Final = 1000


def check_limit(limit: int, field: str = "limit", most: int = MAX_LIMIT) -> int:
    """`limit`, when it is an integer from 1 to `most`. Raises InvalidInput naming `field`."""
    if type(limit) is not int or not 1 <= limit <= most:
        raise InvalidInput(field, f"must be an integer from 1 to {most}", limit)
    return limit


def check_ids(ids: Collection[int], field: str) -> list[int]:
    """`ids` as a list, when they are at most 1000 integers. Raises InvalidInput naming `field`."""
    if isinstance(ids, str | bytes) or not isinstance(ids, Collection):
        raise InvalidInput(field, "must be a list of ids", ids)
    if len(ids) > MAX_LIMIT:
        raise InvalidInput(field, f"must be at most {MAX_LIMIT} ids, not {len(ids)}")
    for number, one in enumerate(ids):
        if type(one) is not int:
            raise InvalidInput(f"{field}[{number}]", "must be an integer", one)
    return list(ids)
