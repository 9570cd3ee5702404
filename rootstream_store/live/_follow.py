"""Following the live state of one stream: a snapshot, then each change, then a snapshot whenever one was
missed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import TracebackType
from typing import overload

from rootstream_store._async_messages import AsyncMessages
from rootstream_store.async_store import AsyncStore
from rootstream_store.cache import check_timeout
from rootstream_store.errors import Unavailable
from rootstream_store.live._messages import Received, StateChanged, StateDeleted
from rootstream_store.live._state import StateSnapshot, get_state
from rootstream_store.live._subscription import Gap, LiveSubscription, subscribe
from rootstream_store.store import Store

__all__ = ["StateFollower", "follow_state"]

_RETRY_AFTER = 0.1


class StateFollower:
    """An iterator of snapshots and changes, and a context manager. Made by `follow_state`. For one thread;
    any may close.

    First comes a snapshot. A change is always the one that follows the version before it; where one was
    missed, or the state is another one, a snapshot comes instead.
    """

    def __init__(self, store: Store, stream_id: int, changes: LiveSubscription) -> None:
        self._store = store
        self._stream_id = stream_id
        self._changes = changes
        self._known: tuple[str | None, int] | None = None
        """Epoch and version that the caller has. None: nothing yet."""
        self._is_behind = True

    @property
    def closed(self) -> bool:
        """Whether close() was called, or the store closed."""
        return self._changes.closed

    def get(self, timeout: float | None = None) -> StateSnapshot | StateChanged | None:
        """The next snapshot or change; None when none came in `timeout` seconds or the follower was closed.

        A Redis that is away is waited for. Raises InvalidInput.
        """
        check_timeout(timeout)
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._changes.closed:
            if self._is_behind and (snapshot := self._look()) is not None:
                return snapshot
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if self._is_behind:
                left = _RETRY_AFTER if left is None else min(left, _RETRY_AFTER)
            received = self._changes.get(left)
            if received is not None and (change := self._take(received)) is not None:
                return change
            if received is None and deadline is not None and time.monotonic() >= deadline:
                return None
        return None

    def fileno(self) -> int | None:
        """The socket to watch between two calls of `get(0)`. None: there is none at present."""
        return self._changes.fileno()

    def due(self) -> float:
        """In how many seconds `get` is to be called, where nothing comes on that socket."""
        return min(_RETRY_AFTER, self._changes.due()) if self._is_behind else self._changes.due()

    def __iter__(self) -> Iterator[StateSnapshot | StateChanged]:
        """Yields until close() is called."""
        while (item := self.get()) is not None:
            yield item

    def close(self) -> None:
        """End it. A thread that waits stops at once. May be repeated."""
        self._changes.close()

    def __enter__(self) -> StateFollower:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _look(self) -> StateSnapshot | None:
        """The state as it is, unless the caller has it already or Redis is away."""
        try:
            snapshot = get_state(self._store, self._stream_id)
        except Unavailable:
            return None
        self._is_behind = False
        found = snapshot.epoch, snapshot.version
        if found == self._known:
            return None
        self._known = found
        return snapshot

    def _take(self, received: Received | Gap) -> StateChanged | None:
        if self._is_behind or self._known is None:
            return None  # whatever it is, the snapshot that will be read has it
        if isinstance(received, Gap):
            self._is_behind = True
            return None
        epoch, version = self._known
        message = received.message
        if isinstance(message, StateChanged):
            if message.epoch == epoch and message.version == version + 1:
                self._known = epoch, message.version
                return message
            # An older one is in the snapshot; any other means that something is missing.
            self._is_behind = message.epoch != epoch or message.version > version
        elif isinstance(message, StateDeleted):
            self._is_behind = message.epoch == epoch
        return None


@overload
def follow_state(store: Store, stream_id: int) -> StateFollower: ...
@overload
def follow_state(store: AsyncStore, stream_id: int) -> AsyncMessages[StateSnapshot | StateChanged]: ...
def follow_state(
    store: Store | AsyncStore, stream_id: int
) -> StateFollower | AsyncMessages[StateSnapshot | StateChanged]:
    """The live state of the stream as it is, then each change of it: `for item in follow_state(…)`.

    A state that is gone, because it was deleted or Redis came back empty, comes as a snapshot of version 0;
    one that merely ended by itself, its time to live, is not told. Raises as `subscribe` does. Of an
    AsyncStore: `async with live.follow_state(…) as items: async for item in items:`.
    """
    if isinstance(store, AsyncStore):
        return store.messages(lambda below: follow_state(below, stream_id))
    # Before the snapshot is read, so that no change falls between the two.
    changes = subscribe(store, f"state.{stream_id}.*")
    return StateFollower(store, stream_id, changes)
