"""Reading the capped stream of messages: each one once and in order, and what is missing told.

A published message wakes the reader, which then reads everything behind its place. The wake-up is a hint:
when one is lost it looks by itself within `POLL` seconds, and after each loss of the connection.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple

from rootstream_store.cache import keys
from rootstream_store.cache.breaker import UNREACHED, Unreached
from rootstream_store.cache.pubsub import Gap, Message, Subscription
from rootstream_store.cache.wire import Command
from rootstream_store.errors import InvalidInput, StoreClosed, Unavailable

__all__ = ["POLL", "Entry", "Feed", "Hole"]

POLL: Final = 1.0
"""Seconds after which a reader looks by itself."""
_MOST_AT_ONCE: Final = 500
_RETRY_AFTER: Final = 0.1
_ID = re.compile(r"(\d{1,15})-(\d{1,20})")

Read = Callable[[Sequence[Command]], list[Any] | Literal[Unreached.UNREACHED]]


class Place(NamedTuple):
    """A message's id, as numbers: they compare as the ids do."""

    ms: int
    """Time by the server's clock, in milliseconds since 1970."""
    number: int

    def __str__(self) -> str:
        return f"{self.ms}-{self.number}"

    @property
    def time(self) -> datetime:
        """When it was published."""
        return datetime.fromtimestamp(self.ms / 1000, UTC)


_NOWHERE = Place(0, 0)


class Entry(NamedTuple):
    """One message as it is in the stream."""

    place: Place
    topic: str
    payload: bytes


class Hole(NamedTuple):
    """Messages are missing here. Comes before any newer message."""

    reason: Literal["trimmed", "restarted"]
    """trimmed: they were dropped before this reader got to them. restarted: the server lost what it had, or
    its replica had not got all of it."""
    missing: int | None
    """How many. None: not known, perhaps none."""
    since: datetime | None
    until: datetime | None
    """The times of the messages before and after it, by the server's clock. None: there is none."""


class Feed:
    """Made by Cache.feed. One thread reads at a time; any may close.

    `since`: None: from now on; the id of a message: what came after it; a datetime: what was published then
    and later; "start": everything that is kept. Raises InvalidInput, Unavailable.
    """

    def __init__(self, read: Read, wakes: Subscription, since: str | datetime | None) -> None:
        self._read = read
        self._wakes = wakes
        self._found: list[Entry | Hole] = []
        self._looked_at = time.monotonic()
        self._retry_at = 0.0
        self._behind, self._check, self._reconnected = True, False, False
        self._count = _MOST_AT_ONCE
        try:
            self._place, self._number = self._begin(since)
        except BaseException:
            wakes.close()
            raise

    @property
    def closed(self) -> bool:
        """Whether close() was called, or the store closed."""
        return self._wakes.closed

    @property
    def last_error(self) -> str | None:
        """Why the connection for wake-ups was last lost, without secrets. None: never."""
        return self._wakes.last_error

    @property
    def place(self) -> str:
        """Id of the last message that was read, or before which reading begins."""
        return str(self._place)

    def fileno(self) -> int | None:
        """The socket on which wake-ups come, as Subscription.fileno."""
        return self._wakes.fileno()

    def due(self) -> float:
        """In how many seconds `get` is to be called, where no wake-up comes."""
        due = self._retry_at if self._behind else self._looked_at + POLL
        return min(max(0.0, due - time.monotonic()), self._wakes.due())

    def close(self) -> None:
        """A thread that waits in `get` returns at once. May be repeated."""
        self._wakes.close()

    def get(self, timeout: float | None) -> list[Entry | Hole]:
        """What came, up to some hundred at once; nothing when nothing came in `timeout` seconds (None: no
        limit) or the feed was closed. A server that is away is waited for."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self.closed:
            if self._found:
                found, self._found = self._found, []
                return found
            now = time.monotonic()
            if self._behind and now >= self._retry_at:
                self._look()
                if self._found:
                    continue
                now = time.monotonic()
            left = POLL if deadline is None else deadline - now
            due = self._retry_at if self._behind else self._looked_at + POLL
            woken = self._wakes.get(max(0.0, min(left, due - now)))
            self._note(woken)
            if woken is None and not self._behind and left <= 0:
                return []
            if self._behind and left <= 0 and time.monotonic() < self._retry_at:
                return []
        return []

    def _note(self, woken: Message | Gap | None) -> None:
        if isinstance(woken, Message):
            place = _parse(woken.data)
            if place is None or place > self._place:
                self._behind = True
        elif isinstance(woken, Gap):
            self._behind = self._check = self._reconnected = True
        elif time.monotonic() >= self._looked_at + POLL:
            self._behind = self._check = True

    def _look(self) -> None:
        commands: list[Command] = [("XRANGE", keys.MESSAGES, f"({self._place}", "+", "COUNT", self._count)]
        if self._check:
            commands.append(("XREVRANGE", keys.MESSAGES, "+", "-", "COUNT", 1))
        replies = self._read(commands)
        self._looked_at = time.monotonic()
        if replies is UNREACHED:
            self._retry_at = self._looked_at + _RETRY_AFTER
            self._check = True
            # Large messages on a slow network: fewer of them arrive in the time there is.
            self._count = max(1, self._count // 2)
            return
        entries = _entries(replies[0])
        if self._check and not entries:
            newest = _entries(replies[1])
            self._check_place(newest[0].place if newest else _NOWHERE)
        self._check = self._reconnected = False
        self._behind = len(entries) == self._count
        self._count = min(_MOST_AT_ONCE, self._count * 2)
        for entry in entries:
            if self._number is not None and entry.place.number != self._number + 1:
                self._found.append(self._hole(entry.place))
            self._place, self._number = entry.place, entry.place.number
            self._found.append(entry)

    def _check_place(self, newest: Place) -> None:
        """Nothing is behind our place: is it that of the newest message, or is the server no longer the one
        it was?"""
        lost_all = newest == _NOWHERE and self._reconnected  # even if we know of none that was lost
        if newest < self._place or lost_all:
            until = None if newest == _NOWHERE else newest.time
            since = None if self._place == _NOWHERE else self._place.time
            self._found.append(Hole("restarted", None, since, until))
            self._place = newest
            self._number = newest.number if newest != _NOWHERE else None

    def _hole(self, after: Place) -> Hole:
        assert self._number is not None
        start = self._start()
        # A number below the one that the stream began with is of a stream that is gone.
        if start is not None and start <= self._number < after.number:
            return Hole("trimmed", after.number - self._number - 1, self._place.time, after.time)
        return Hole("restarted", None, self._place.time, after.time)

    def _start(self) -> int | None:
        replies = self._read([("GET", keys.MESSAGES_START)])
        if replies is UNREACHED or not replies[0]:
            return None
        return int(replies[0])

    def _begin(self, since: str | datetime | None) -> tuple[Place, int | None]:
        given = _given(since)
        replies = self._read(
            [
                ("XREVRANGE", keys.MESSAGES, "+", "-", "COUNT", 1),
                ("XRANGE", keys.MESSAGES, "-", "+", "COUNT", 1),
                ("GET", keys.MESSAGES_START),
            ]
        )
        if replies is UNREACHED:
            if self._wakes.closed:
                raise StoreClosed("the store is closed")
            raise Unavailable("reading live messages failed: Redis does not answer")
        newest, oldest = (found[0].place if (found := _entries(reply)) else _NOWHERE for reply in replies[:2])
        if given is None:
            return newest, newest.number if newest != _NOWHERE else None
        if since == "start":
            return _NOWHERE, None
        if isinstance(since, str):
            if given > newest:
                self._found.append(Hole("restarted", None, given.time, None))
                return newest, newest.number if newest != _NOWHERE else None
            return given, given.number
        began = int(replies[2]) if replies[2] else None
        # Complete if something older is still there, or nothing was dropped since the stream began before it.
        is_complete = oldest.ms < given.ms and oldest != _NOWHERE
        if began is not None and began == oldest.number and began // 1000 <= given.ms:
            is_complete = True
        if not is_complete:
            reason: Literal["trimmed", "restarted"] = "trimmed"
            if began is None or began // 1000 > given.ms:
                reason = "restarted"
            until = None if oldest == _NOWHERE else oldest.time
            self._found.append(Hole(reason, None, given.time, until))
        if given > newest:
            return newest, newest.number if newest != _NOWHERE else None
        # Just before the first possible one of that millisecond.
        return Place(given.ms - 1, 2**63), None


def _given(since: object) -> Place | None:
    if since is None:
        return None
    if since == "start":
        return _NOWHERE
    if isinstance(since, datetime):
        if since.tzinfo is None:
            raise InvalidInput("since", "must be a datetime with a time zone", since)
        return Place(max(1, int(since.timestamp() * 1000)), 0)
    place = _parse(since.encode()) if isinstance(since, str) and since.isascii() else None
    if place is None:
        raise InvalidInput("since", 'must be the id of a message, a datetime, "start" or None', since)
    return place


def _parse(text: bytes) -> Place | None:
    match = _ID.fullmatch(text.decode(errors="replace"))
    return Place(int(match[1]), int(match[2])) if match else None


def _entries(reply: Any) -> list[Entry]:
    """What XRANGE answers, whether or not redis-py made tuples and dicts of it."""
    found = []
    for raw, fields in reply or ():
        ms, _, number = raw.partition(b"-")
        values = fields if isinstance(fields, dict) else dict(zip(fields[::2], fields[1::2], strict=True))
        topic = values.get(b"t", b"").decode(errors="surrogateescape")
        found.append(Entry(Place(int(ms), int(number)), topic, values.get(b"m", b"")))
    return found
