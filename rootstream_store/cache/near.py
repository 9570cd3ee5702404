"""The near-cache: answers kept in this process, in front of Redis. A hit costs a look into a dict.

It holds only what a lookup in Redis gave, and only while `_tracking` hears of every change there: whatever
changes a key in Redis removes it here. Three things keep an old answer out.

- A ticket is taken before Redis is asked, and is void once the key was invalidated: an answer that was on its
  way meanwhile is not kept.
- Nothing is served later than a second after a moment at which the server is known to have told everything.
- This process's own writes remove the key here before they return, whatever the network does.

So this process never serves an answer older than its own acknowledged writes. Those of others are seen when
the server's message arrives: after some 0.2 ms, and after a second at most where the network is dead.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any, Final

import msgspec

__all__ = ["LONGEST", "MISSING", "NEGATIVE", "PREFIXES", "Missing", "NearCache", "NearCounters", "Ticket"]

PREFIXES: Final = ("user:", "stream:", "stream_key:")
"""How the keys begin that are kept."""
LONGEST: Final = 30.0
"""Seconds after which an entry is looked up in Redis again, whatever its time to live. What Redis has dropped
without a word is forgotten so; a hot key costs a GET each half minute."""
NEGATIVE: Final = 1.0
"""The same where the answer is that there is no such thing, which Redis itself keeps for 5 s only."""

_OVERHEAD = 200
"""Bytes that an entry takes beside its key and its answer, about."""
_SLOTS = 4096
_CHANCES = 16


class Missing(Enum):
    """The type of MISSING."""

    MISSING = "missing"


MISSING: Final = Missing.MISSING
"""Nothing is kept for this key. A type of its own, since None says that there is no such thing."""

Ticket = tuple[list[int], int, int]
"""The right to keep an answer that is asked for from now on: the generations, a slot in them, and its
number."""


class NearCounters(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept, and what was counted since the start."""

    entries: int = 0
    bytes: int = 0
    hits: int = 0
    invalidated: int = 0
    """Entries removed since their key was changed."""
    evicted: int = 0
    """Entries removed to make room."""
    refused: int = 0
    """Answers not kept since their key was changed while they were on their way: each would have been
    stale."""
    dropped: int = 0
    """Times that everything was dropped: the connection that tells of changes was lost, or Redis was
    flushed."""


class _Entry:
    __slots__ = ("is_used", "size", "until", "value")

    def __init__(self, value: Any, size: int, until: float) -> None:
        self.value = value
        self.size = size
        self.until = until
        self.is_used = False


class NearCache:
    """Thread-safe. At most `entries` answers of `size` bytes together, those not used lately go first.

    Empty and closed until somebody who hears of the changes calls `open`; `want` is called when that would be
    of use. `prefixes`: how the keys begin that are kept. `clock` in seconds.
    """

    def __init__(
        self,
        *,
        entries: int,
        size: int,
        prefixes: tuple[str, ...] = PREFIXES,
        want: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.prefixes = prefixes
        self.want = want
        self._most_entries = entries
        self._most_bytes = size
        self._clock = clock
        self._hits = self._invalidated = self._evicted = self._refused = self._dropped = 0
        self._hit_numbers = itertools.count(1)
        self._begin()
        _living.add(self)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._is_open = False
        self._good_until = 0.0
        self._empty()

    def _empty(self) -> None:
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._bytes = 0
        # Another list: tickets of before are void.
        self._generations = [0] * _SLOTS

    # Reading

    def get(self, key: str) -> Any:
        """The answer, or MISSING. Takes no lock: this is to cost nothing."""
        entry = self._entries.get(key)
        if entry is None:
            return MISSING
        now = self._clock()
        if now >= entry.until or now >= self._good_until:
            return MISSING
        entry.is_used = True
        # One hit may be missing for a moment when two threads store at once, not for longer.
        self._hits = next(self._hit_numbers)
        return entry.value

    def ticket(self, key: str) -> Ticket | None:
        """To be taken before Redis is asked, and given to `put` with the answer. None: it is not to be
        kept."""
        if not key.startswith(self.prefixes):
            return None
        if not self._is_open:
            self.want()
            return None
        generations, slot = self._generations, hash(key) % _SLOTS
        return generations, slot, generations[slot]

    def put(self, ticket: Ticket, key: str, value: Any, *, size: int, life: float) -> None:
        """Keep an answer that Redis gave after the ticket was taken, unless its key was changed since.

        `value` must never be changed by anybody. `size`: bytes that it had in Redis. `life`: seconds for
        which it is true by itself; at most LONGEST of them count.
        """
        size += len(key) + _OVERHEAD
        if life <= 0 or size > self._most_bytes or self._most_entries < 1:
            return
        entry = _Entry(value, size, self._clock() + min(life, LONGEST))
        generations, slot, number = ticket
        with self._lock:
            if self._generations is not generations or generations[slot] != number:
                self._refused += 1
                return
            self._remove(key)
            self._entries[key] = entry
            self._bytes += size
            self._make_room()

    # Forgetting

    def forget(self, keys: Iterable[str]) -> None:
        """This process changes what is behind these keys, or has changed it just now."""
        with self._lock:
            for key in keys:
                self._invalidate(key)

    def invalidate(self, names: Iterable[bytes] | None) -> None:
        """Redis tells that these keys have changed. None: all of them."""
        if names is None:
            with self._lock:
                self._empty()
                self._dropped += 1
            return
        keys = [name.decode(errors="replace") for name in names]
        with self._lock:
            for key in keys:
                self._invalidate(key)

    def open(self, good_until: float) -> None:
        """From now on every change will be told: answers may be kept. `good_until`: see `extend`."""
        with self._lock:
            self._empty()
            self._good_until = good_until
            self._is_open = True

    def extend(self, good_until: float) -> None:
        """All changes of up to now are told. Serve until this time of the clock, unless told again."""
        self._good_until = good_until

    def drop(self) -> None:
        """Changes are not told any more: drop everything, and keep nothing until `open`."""
        with self._lock:
            if self._is_open:
                self._is_open = False
                self._dropped += 1
                self._empty()

    @property
    def counters(self) -> NearCounters:
        """As of one moment."""
        with self._lock:
            return NearCounters(
                entries=len(self._entries),
                bytes=self._bytes,
                hits=self._hits,
                invalidated=self._invalidated,
                evicted=self._evicted,
                refused=self._refused,
                dropped=self._dropped,
            )

    # With the lock held

    def _invalidate(self, key: str) -> None:
        # A slot has several keys: a change of one costs another an answer now and then, and no more.
        self._generations[hash(key) % _SLOTS] += 1
        self._invalidated += self._remove(key)

    def _remove(self, key: str) -> bool:
        entry = self._entries.pop(key, None)
        if entry is None:
            return False
        self._bytes -= entry.size
        return True

    def _make_room(self) -> None:
        # The oldest one goes, but one that was used since it was last looked at is passed over; not many
        # times in one call, so that no caller waits long.
        chances = _CHANCES
        while len(self._entries) > self._most_entries or self._bytes > self._most_bytes:
            key, entry = next(iter(self._entries.items()))
            if entry.is_used and chances and len(self._entries) > 1:
                chances -= 1
                entry.is_used = False
                self._entries.move_to_end(key)
            else:
                self._remove(key)
                self._evicted += 1


_living: weakref.WeakSet[NearCache] = weakref.WeakSet()


def _forget_in_child() -> None:
    # Nobody tells a forked child of changes: what it has from its parent must not be served. The lock may be
    # held by a thread that is not there.
    for near in list(_living):
        near._begin()


os.register_at_fork(after_in_child=_forget_in_child)
