"""Receiving messages: typed, by topic, with the gaps told."""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from fnmatch import translate
from types import TracebackType
from typing import Literal, overload

import msgspec

from rootstream_store._async_messages import AsyncMessages
from rootstream_store.async_store import AsyncStore
from rootstream_store.cache import Entry, Feed, Hole, check_timeout
from rootstream_store.cache.messages import LOST
from rootstream_store.errors import InvalidInput
from rootstream_store.live._messages import Decoder, Message, Received
from rootstream_store.store import Store

__all__ = ["Gap", "LiveSubscription", "subscribe"]


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """Messages are missing here, of whatever topic. Comes before any newer message: read the truth again."""

    reason: Literal["trimmed", "restarted", "unpublished"]
    """trimmed: the reader was away or slow for so long that Redis had dropped them. restarted: Redis came
    back empty, or with less than it had. unpublished: a publisher could not reach Redis."""
    missing: int | None
    """How many; of "unpublished" at most so many. None: not known, perhaps none."""
    since: datetime | None
    until: datetime | None
    """When they were published; of "unpublished" by the publisher's clock. None: not known."""
    publisher: str | None = None
    """Of "unpublished": a random name of the process."""


class _Lost(msgspec.Struct, frozen=True):
    publisher: str
    count: int
    since: datetime
    until: datetime


_decode_lost = msgspec.json.Decoder(_Lost).decode


class LiveSubscription:
    """An iterator of messages and gaps, and a context manager. Made by `subscribe`.

    One thread reads (more may: each message goes to one of them); any thread may close. What a slow reader
    has not taken yet stays in Redis: here are never more than some hundred.
    """

    def __init__(self, feed: Feed, pattern: re.Pattern[str] | None, decoder: Decoder) -> None:
        self._feed = feed
        self._matches = None if pattern is None else pattern.match
        self._decode = decoder.decode
        self._ready: deque[Received | Gap] = deque()
        self._reading = threading.Lock()

    @property
    def closed(self) -> bool:
        """Whether close() was called, or the store closed."""
        return self._feed.closed

    @property
    def last_error(self) -> str | None:
        """Why the connection was last lost, without secrets. None: never."""
        return self._feed.last_error

    def get(self, timeout: float | None = None) -> Received | Gap | None:
        """The next message or gap; None when none came in `timeout` seconds or the subscription was closed.

        None as timeout: waits until one comes. A Redis that is away is waited for in the same way. Raises
        SettingsError or PermissionDenied when Redis is back and refuses the user, and InvalidInput.
        """
        check_timeout(timeout)
        if self._ready and not self._feed.closed:
            with suppress(IndexError):  # another thread took it
                return self._ready.popleft()
        deadline = None if timeout is None else time.monotonic() + timeout
        if not self._reading.acquire(timeout=-1 if timeout is None else max(0.0, timeout)):
            return None
        try:
            while not self._feed.closed:
                if self._ready:
                    return self._ready.popleft()
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                found = self._feed.get(left)
                if not found and deadline is not None and time.monotonic() >= deadline:
                    return None
                for item in found:
                    self._take(item)
        finally:
            self._reading.release()
        return None

    def fileno(self) -> int | None:
        """The socket to watch between two calls of `get(0)`. None: there is none at present."""
        return self._feed.fileno()

    def due(self) -> float:
        """In how many seconds `get` is to be called, where nothing comes on that socket."""
        return self._feed.due()

    def __iter__(self) -> Iterator[Received | Gap]:
        """Yields until close() is called."""
        while (received := self.get()) is not None:
            yield received

    def close(self) -> None:
        """End the subscription. A thread that waits for a message stops at once. May be repeated."""
        self._feed.close()

    def __enter__(self) -> LiveSubscription:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _take(self, item: Entry | Hole) -> None:
        if isinstance(item, Hole):
            self._ready.append(
                Gap(reason=item.reason, missing=item.missing, since=item.since, until=item.until)
            )
        elif item.topic == LOST:
            self._ready.append(_unpublished(item.payload))
        elif self._matches is None or self._matches(item.topic):
            self._ready.append(Received(str(item.place), item.topic, self._decode(item.payload)))


@overload
def subscribe(
    store: Store,
    pattern: str | Iterable[str] = "*",
    *,
    since: str | datetime | None = None,
    types: Iterable[type[Message]] = (),
) -> LiveSubscription: ...
@overload
def subscribe(
    store: AsyncStore,
    pattern: str | Iterable[str] = "*",
    *,
    since: str | datetime | None = None,
    types: Iterable[type[Message]] = (),
) -> AsyncMessages[Received | Gap]: ...
def subscribe(
    store: Store | AsyncStore,
    pattern: str | Iterable[str] = "*",
    *,
    since: str | datetime | None = None,
    types: Iterable[type[Message]] = (),
) -> LiveSubscription | AsyncMessages[Received | Gap]:
    """The messages whose topic matches `pattern`, or one of several (glob: `stream.7.*`, `*.7.*`), from
    `since` on.

    `since`: None: from now on, what is published once this has returned is received; the id of a message:
    what came after it; a datetime: what was published then and later; "start": everything that is kept.
    `types`: classes of your own messages; those of other types come as RawMessage.

    Of an AsyncStore: `async with live.subscribe(…) as messages: async for message in messages:`; what is said
    here holds from the beginning of the block on.

    Has a connection of its own for wake-ups. Closed with the store. Raises InvalidInput, Unavailable or
    Timeout (retryable), SettingsError without a redis_url, PermissionDenied.
    """
    patterns = [pattern] if isinstance(pattern, str) else list(pattern)
    if not patterns or not all(isinstance(one, str) for one in patterns):
        raise InvalidInput("pattern", "must be a pattern, or several")
    regex = None if "*" in patterns else re.compile("|".join(map(translate, patterns)))
    decoder = Decoder(tuple(types))
    if isinstance(store, AsyncStore):
        return store.messages(lambda below: LiveSubscription(below.feed(since), regex, decoder))
    return LiveSubscription(store.feed(since), regex, decoder)


def _unpublished(payload: bytes) -> Gap:
    try:
        lost = _decode_lost(payload)
    except msgspec.MsgspecError:  # of a newer release: what it means is known all the same
        return Gap(reason="unpublished", missing=None, since=None, until=None)
    return Gap(
        reason="unpublished",
        missing=lost.count,
        since=lost.since,
        until=lost.until,
        publisher=lost.publisher,
    )
