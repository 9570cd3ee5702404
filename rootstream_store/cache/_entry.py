"""What the lease cache writes under a key: one byte for the kind; for an answer the stamp of the server that
it was cached in, see _generation; then the payload. And its Lua scripts. No I/O."""

from __future__ import annotations

import itertools
import os
import random
import struct
from enum import Enum
from typing import Final

from rootstream_store.cache.wire import Script

__all__ = [
    "FILL",
    "HEAD",
    "LOOK",
    "RELEASE",
    "STAMP_SIZE",
    "WRITING",
    "Kind",
    "Tokens",
    "decode",
    "jittered",
    "stored",
]


class Kind(Enum):
    """The kinds of entry, by their first byte."""

    VALUE = b"v"
    NEGATIVE = b"n"
    LEASE = b"l"
    WRITING = b"w"


WRITING: Final = Kind.WRITING.value

STAMP_SIZE: Final = 8
"""Bytes."""
HEAD: Final = 1 + STAMP_SIZE
"""Bytes before the payload of an answer."""
_KINDS = {kind.value: kind for kind in Kind}


LOOK: Final = Script("""\
-- What is under the key, or else the caller's lease, in one step. An answer of another stamp is as good as
-- none: (lease, its milliseconds, stamp) -> entry or false
local entry = redis.call('GET', KEYS[1])
if entry then
    local kind = string.sub(entry, 1, 1)
    if (kind ~= 'v' and kind ~= 'n') or string.sub(entry, 2, 9) == ARGV[3] then return entry end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return false
""")

FILL: Final = Script("""\
-- Put the entry if the caller's lease is still there: (lease, entry, its milliseconds) -> 1 or 0
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
""")

RELEASE: Final = Script("""\
-- Give the caller's lease back if it is still there: (lease) -> 1 or 0
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
""")


class Tokens:
    """Lease entries, each one unique: a random part of this object, the process and a number."""

    def __init__(self) -> None:
        self._prefix = Kind.LEASE.value + os.urandom(8)
        self._numbers = itertools.count()

    def make(self) -> bytes:
        """A lease entry that nobody else has. The process id keeps a forked child's apart."""
        return self._prefix + struct.pack(">IQ", os.getpid(), next(self._numbers))


def decode(raw: bytes) -> tuple[Kind, bytes] | None:
    """Kind and payload of what was read, None when it is not an entry of the lease cache."""
    kind = _KINDS.get(raw[:1])
    if kind is Kind.VALUE or kind is Kind.NEGATIVE:
        return (kind, raw[HEAD:]) if len(raw) >= HEAD else None
    return None if kind is None else (kind, raw[1:])


def stored(payload: bytes | None, stamp: bytes) -> bytes:
    """The entry for a loaded value; None is "there is no such thing"."""
    return Kind.NEGATIVE.value + stamp if payload is None else Kind.VALUE.value + stamp + payload


def jittered(ttl: float) -> float:
    """The TTL ±10 %, so that what was filled together does not expire together."""
    return ttl * random.uniform(0.9, 1.1)
