"""How long the calling thread may still wait for Redis, all waits of one call together.

A call may need several: a free connection, a lookup, the handshake, a redirection, the reply. Each has its
own limit; this one is for their sum, so that many short waits do not add up to a long one.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import redis

__all__ = ["LIMITS", "left", "require_time", "within"]


class _Limits(threading.local):
    end: float = math.inf
    """When the waits of this thread have to be over, on the monotonic clock."""
    insist: bool = False
    """Whether this call is worth a wait for a server that has just failed."""


LIMITS = _Limits()
"""Of the calling thread."""


def left(most: float | None) -> float:
    """The seconds that a wait may last now: `most`, or less when the call has used up its time. May be
    negative. None: no limit of its own."""
    seconds = LIMITS.end - time.monotonic()
    return seconds if most is None else min(most, seconds)


def require_time(most: float | None) -> float:
    """As `left`, but raises redis.TimeoutError when nothing is left, rather than begin in vain."""
    seconds = left(most)
    if seconds <= 0:
        raise redis.TimeoutError("the time for this call was used up before it was sent")
    return seconds


@contextmanager
def within(seconds: float, *, insist: bool | None = None) -> Iterator[None]:
    """All waits of the block together last at most so long, and no longer than what is left of an outer
    block."""
    end, insisted = LIMITS.end, LIMITS.insist
    LIMITS.end = min(end, time.monotonic() + seconds)
    if insist is not None:
        LIMITS.insist = insist
    try:
        yield
    finally:
        LIMITS.end, LIMITS.insist = end, insisted
