"""The lease cache: values in Redis in front of queries, never older than the last acknowledged write.

A reader that misses takes a lease token and fills the key only if the token is still there. A writer puts a
`writing` marker before its commit and removes the key after it, whatever is there: a reader that loaded
before the commit finds its token gone. Plain cache-aside gave 3 % stale reads under races, this none.

What Redis lost in a failover, or brought back from an older dump, is no hit: see _generation.

The limits: two writers are on one key and the second one dies between its commit and `end_write`; this
process dies while it remembers removals that Redis did not take. For keys that are in the outbox of
invalidations they end with the next sweep (see _invalidations), for others with the TTL of the value.

One more ends within `retry_after` of when this process reaches Redis again, or with the next sweep of another
one: a write whose removal fails, or comes while another call finds out whether Redis is back, becomes known
to other processes by a later attempt; until then they answer from what Redis has. `end_write` makes its own
attempt although the breaker is open, so that an earlier timeout alone has no such effect.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Literal, TypeVar

import redis

from rootstream_store.cache._counts import Counts, LeaseCounters
from rootstream_store.cache._entry import (
    FILL,
    HEAD,
    LOOK,
    RELEASE,
    WRITING,
    Kind,
    Tokens,
    decode,
    jittered,
    stored,
)
from rootstream_store.cache._flight import SharedLoads
from rootstream_store.cache._generation import Generation
from rootstream_store.cache._pending import PendingRemovals
from rootstream_store.cache.breaker import UNREACHED, Breaker, Unreached
from rootstream_store.cache.effects import encode, milliseconds
from rootstream_store.cache.wire import Script, Wire
from rootstream_store.errors import InvalidInput

__all__ = ["LeaseCache", "LeaseCounters", "Load", "Missed"]

_T = TypeVar("_T")

Load = Callable[[], tuple[bytes | None, float]]
"""Reads the truth: the value, or None where there is none, and how long it may be cached, in seconds."""

NEGATIVE_TTL = 5.0
WRITING_TTL = 30.0
LEASE_TTL = 5.0
_FIRST_PAUSE = 0.002
_LONGEST_PAUSE = 0.025
_LOCAL_PATIENCE = LEASE_TTL


class _Call:
    """What one call has spent waiting on Redis, in seconds: many short waits must not add up to a long
    one."""

    __slots__ = ("limit", "spent")

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.spent = 0.0


class Missed:
    """Where a first look gave no value; `LeaseCache.load` goes on from here."""

    __slots__ = ("call", "name", "raw")

    def __init__(self, call: _Call, name: bytes, raw: Any) -> None:
        self.call = call
        self.name = name
        self.raw = raw


class _Leading:
    """A lease of this process: threads that find it wait here, not on Redis."""

    __slots__ = ("done", "filled")

    def __init__(self) -> None:
        self.done = threading.Event()
        self.filled = False


class LeaseCache:
    """Thread-safe. `wire` is shared with others. `timeout` is that of its client, in seconds.

    One call waits on Redis for at most 2.2 times `timeout`; with the breaker open it does not wait at all.
    But `end_write` then waits one `timeout`, unless another attempt is under way.
    """

    def __init__(self, wire: Wire, breaker: Breaker, *, timeout: float, retry_after: float) -> None:
        self._wire = wire
        self._breaker = breaker
        # No new round trip once this is spent, and the last one takes one timeout at most.
        self._budget = 1.2 * timeout
        self._wait_for_others = 0.8 * timeout
        self._tokens = Tokens()
        self._leading: dict[bytes, _Leading] = {}
        self._shared: SharedLoads[tuple[bytes | None, float]] = SharedLoads(_LOCAL_PATIENCE)
        self._pending = PendingRemovals(self._remove, retry_after)
        self._counts = Counts()
        self.generation = Generation(wire, breaker)

    @property
    def counters(self) -> LeaseCounters:
        """What was counted so far."""
        return self._counts.read()

    @property
    def pending(self) -> int:
        """Keys that wait to be removed until Redis is back."""
        return len(self._pending)

    def get_or_load(self, key: str, load: Load) -> bytes | None:
        """The cached value, else what `load` gives, which is then cached. None: there is no such thing.

        `load` may run in another thread for this call, and must not ask for the same key. A TTL of 0 or less:
        the value is not cached; None is cached for 5 s at most. Raises what `load` raises, and InvalidInput.
        """
        return self.fetch(key, load)[0]

    def fetch(self, key: str, load: Load) -> tuple[bytes | None, bool]:
        """What `get_or_load` gives, and whether it was there already when Redis was asked: then whatever
        changes it from now on changes the key in Redis."""
        found = self.look(key)
        return (self.load(found, load), False) if isinstance(found, Missed) else found

    def look(self, key: str) -> tuple[bytes | None, bool] | Missed:
        """What `fetch` gives where there is a value: this waits for Redis alone. Raises InvalidInput."""
        call = _Call(self._budget)
        name = encode(key, "key")
        # A plain GET first: there nearly always is a value, and a value may be served however it was read.
        # Only the script takes a lease, after looking once more in the same step.
        clean = self._clean(call, name)
        raw = self._ask(call, lambda: self._wire.command("GET", name)) if clean else UNREACHED
        found = self._hit(raw)
        return Missed(call, name, raw) if found is None else found

    def load(self, missed: Missed, load: Load) -> bytes | None:
        """What `get_or_load` gives, after a look that gave nothing."""
        return self._without_value(missed.call, missed.name, missed.raw, load)

    def peek(self, key: str, get: Callable[[bytes], Any]) -> tuple[bytes | None, bool] | None:
        """What `look` gives where there is a value, by another way to Redis: `get` gives the value of a key
        there, or UNREACHED. None: `look` has to find out. Raises InvalidInput, and what `get` raises."""
        name = encode(key, "key")
        return None if self._pending else self._hit(get(name))

    def _hit(self, raw: Any) -> tuple[bytes | None, bool] | None:
        if raw is None or raw is UNREACHED:
            return None
        # The head as it is now: the answer may have come on a connection that was opened for it.
        head = self.generation.head
        if raw[:HEAD] == head:
            self._counts.hit()
            return bytes(raw[HEAD:]), True
        if raw[:1] == Kind.NEGATIVE.value and raw[1:HEAD] == head[1:]:
            self._counts.hit()
            return None, True
        return None

    def begin_write(self, keys: Iterable[str]) -> None:
        """Say that these keys are about to change, just before the commit. Readers then load and do not fill.

        The marker lasts 30 s, so that a process that dies before `end_write` leaves the key uncached, not
        stale.
        """
        names = _names(keys)
        if not names:
            return
        call = _Call(self._budget)
        lifetime = milliseconds(WRITING_TTL)
        replies = self._ask(
            call, lambda: self._wire.commands([("SET", name, WRITING, "PX", lifetime) for name in names])
        )
        if replies is UNREACHED:
            return
        refused = [name for name, reply in zip(names, replies, strict=True) if self._refused(reply)]
        if refused:
            # A full Redis refuses SET but still removes: what is cached goes, and no lease can be taken
            # either.
            self._ask(call, lambda: self._wire.command("UNLINK", *refused))

    def end_write(self, keys: Iterable[str]) -> None:
        """Remove these keys, after the commit, the rollback or an unknown outcome, whatever is there.

        Tried although the breaker is open: only so do other processes see an acknowledged write at once. What
        Redis does not take now is remembered, and removed before this process serves any hit again.
        """
        names = _names(keys)
        if names and (left := self._remove(names, insist=True)):
            self._pending.add(left)

    def drop(self, keys: Iterable[str]) -> list[str]:
        """Remove these keys, of writes that others have committed. Returns those that Redis did not take."""
        names = _names(keys)
        left = self._remove(names) if names else []
        if self._wire.several_servers:
            self._pending.add(left)
        return [name.decode() for name in left]

    @property
    def withholds_keys(self) -> bool:
        """Whether a key that `drop` could not remove is no hit from then on, while others are. Else nothing
        must be served."""
        return self._wire.several_servers

    def remember(self, keys: Iterable[str]) -> None:
        """Take note of keys that somebody tried to remove in vain, as `end_write` does."""
        self._pending.add(_names(keys))

    def close(self) -> None:
        """Stop retrying in the background, after one last try. Other threads may still be in calls."""
        self._pending.close()

    # Reading

    def _without_value(self, call: _Call, name: bytes, raw: Any, load: Load) -> bytes | None:
        """The answer where the first look gave no value but `raw`."""
        give_up = time.monotonic() + _LOCAL_PATIENCE
        pause = _FIRST_PAUSE
        while True:
            if raw is None:
                lease = self._tokens.make()
                stamp = self._stamp(call)
                raw = UNREACHED if stamp is None else self._look(call, name, lease, stamp)
                # The stamp as it is before the load begins: what was removed on another server before, the
                # load sees.
                stamp = self.generation.stamp
                if raw is None and stamp is not None:
                    return self._load_and_fill(call, name, lease, stamp, load)
            if raw is UNREACHED:
                return self._load_only(name, load)
            entry = decode(raw)
            if entry is None or entry[0] is Kind.WRITING:
                return self._load_only(name, load)
            kind, payload = entry
            if kind is not Kind.LEASE:
                if raw[1:HEAD] != self.generation.stamp:
                    raw = None  # cached in another life of the server: as if it were not there
                    continue
                self._counts.hit()
                return payload if kind is Kind.VALUE else None
            # Somebody loads it. Look again when that is done, rather than take its value: it may have read
            # too early.
            leading = self._leading.get(raw)
            raw = None
            if leading is not None:
                # Not filled (a failed load, a TTL of 0, a write meanwhile): taking turns would only be
                # slower.
                if leading.done.wait(max(0.0, give_up - time.monotonic())) and leading.filled:
                    continue
                return self._load_only(name, load)
            if call.spent + pause > self._wait_for_others:
                return self._load_only(name, load)
            time.sleep(pause)
            call.spent += pause
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _load_and_fill(
        self, call: _Call, name: bytes, lease: bytes, stamp: bytes, load: Load
    ) -> bytes | None:
        leading = self._leading[lease] = _Leading()
        try:
            self._counts.miss()
            try:
                value, ttl = _checked(load())
            except BaseException:
                self._script(call, RELEASE, name, lease)
                raise
            if value is None:
                ttl = min(ttl, NEGATIVE_TTL)
            if ttl > 0:
                entry, lifetime = stored(value, stamp), milliseconds(jittered(ttl))
                filled = self._script(call, FILL, name, lease, entry, lifetime)
                leading.filled = filled is not UNREACHED and self._counts.fill(taken=filled == 1)
            else:
                self._script(call, RELEASE, name, lease)
            return value
        finally:
            del self._leading[lease]
            leading.done.set()

    def _load_only(self, name: bytes, load: Load) -> bytes | None:
        self._counts.miss()
        return self._shared.run(name, lambda: _checked(load()))[0]

    def _look(
        self, call: _Call, name: bytes, lease: bytes, stamp: bytes
    ) -> bytes | Literal[Unreached.UNREACHED] | None:
        if not self._clean(call, name):
            return UNREACHED
        raw = self._script(call, LOOK, name, lease, milliseconds(LEASE_TTL), stamp)
        return raw if raw is None or raw is UNREACHED else bytes(raw)

    def _stamp(self, call: _Call) -> bytes | None:
        """The stamp that a hit must have. None: not known."""
        stamp = self.generation.stamp
        if stamp is None and call.spent < call.limit:
            started = time.monotonic()
            try:
                stamp = self.generation.ask()
            finally:
                call.spent += time.monotonic() - started
        return stamp

    def _clean(self, call: _Call, name: bytes) -> bool:
        """Whether no removal is waiting, after trying to make those that are. With several servers one of
        them may be away for long, so that only the removal of this key counts."""
        if not self._pending or (self._wire.several_servers and name not in self._pending):
            return True
        started = time.monotonic()
        try:
            return self._pending.flush()
        finally:
            call.spent += time.monotonic() - started

    # Talking to Redis

    def _script(self, call: _Call, script: Script, name: bytes, *arguments: bytes | int) -> Any:
        return self._ask(call, lambda: self._wire.script(script, [name], arguments))

    def _ask(self, call: _Call, operation: Callable[[], _T]) -> _T | Literal[Unreached.UNREACHED]:
        if call.spent >= call.limit:
            return UNREACHED
        started = time.monotonic()
        try:
            return self._breaker.attempt(operation)
        finally:
            call.spent += time.monotonic() - started

    def _remove(self, names: list[bytes], *, insist: bool = False) -> list[bytes]:
        """Removes these keys, and returns those that may still be there."""
        removed = self._breaker.attempt(lambda: self._wire.unlink(names), insist=insist)
        return names if removed is UNREACHED else removed

    def _refused(self, reply: object) -> bool:
        if isinstance(reply, redis.RedisError):
            self._breaker.note_refusal(reply)
            return True
        return False


def _names(keys: Iterable[str]) -> list[bytes]:
    if isinstance(keys, str):
        raise InvalidInput("keys", "must be a collection of keys, not one text", keys)
    return list(dict.fromkeys(encode(key, "key") for key in keys))


def _checked(loaded: tuple[bytes | None, float]) -> tuple[bytes | None, float]:
    value, ttl = loaded
    if value is not None and not isinstance(value, bytes):
        raise InvalidInput("load", f"must return bytes or None, not {type(value).__name__}")
    if ttl > 0:
        milliseconds(ttl)
    elif ttl != ttl:
        raise InvalidInput("ttl", "must be a number of seconds", ttl)
    return value, ttl
