"""Waking readers of the log: a message on Redis after an append, and one listener and one look at the horizon
for all subscriptions of a store.

The message is a hint. Without Redis, or when one is lost, readers look by themselves after poll_interval.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator

from rootstream_store.cache import Subscription as Messages
from rootstream_store.cache import Wake, keys
from rootstream_store.errors import RootStreamError, StoreClosed
from rootstream_store.events._horizon import get_horizon
from rootstream_store.flow import Flow, after_commit
from rootstream_store.records import Appended, Horizon
from rootstream_store.store import Store

__all__ = ["Watch", "wake", "wake_after", "watching"]

_log = logging.getLogger("rootstream_store.events")
_RETRY_AFTER = 1.0
"""Seconds between attempts to listen."""


def wake(position: int) -> Flow[None]:
    """The step that wakes readers once what was appended up to `position` is committed."""
    yield from after_commit(Wake(keys.APPENDED, position))


def wake_after(appended: Appended) -> Wake:
    """The effect that wakes readers of what was appended."""
    return Wake(keys.APPENDED, appended.position)


class Watch:
    """What the subscriptions of a store share. Made by `watching`; safe for all threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._looking = threading.Lock()
        self._looked_at = float("-inf")
        self._horizon: Horizon | None = None
        self._news = threading.Condition()
        self._calls = 0
        self._stop = threading.Event()
        self._listener: threading.Thread | None = None
        self._messages: Messages | None = None

    def look(self) -> Horizon:
        """The horizon now, or as another thread found it after this call began. Raises as `get_horizon`."""
        asked_at = time.monotonic()
        with self._looking:
            if self._horizon is None or self._looked_at < asked_at:
                looked_at = time.monotonic()
                known = 0 if self._horizon is None else self._horizon.position
                self._horizon = get_horizon(self._store, known=known)
                self._looked_at = looked_at
            return self._horizon

    @property
    def calls(self) -> int:
        """How often there was something to wake for: to be handed to `wait`."""
        return self._calls

    def wait(self, calls: int, timeout: float) -> None:
        """Returns when something came since `calls` was read, at the latest after `timeout` seconds."""
        with self._news:
            self._news.wait_for(lambda: self._calls != calls, max(0.0, timeout))

    def call(self) -> None:
        """Wakes all who wait."""
        with self._news:
            self._calls += 1
            self._news.notify_all()

    def open(self) -> None:
        """Begins to listen, where there is a Redis."""
        if self._store.settings.redis_url is not None:
            self._listener = threading.Thread(target=self._listen, name="rootstream-listen", daemon=True)
            self._listener.start()

    def close(self) -> None:
        """Stops listening."""
        self._stop.set()
        messages = self._messages
        if messages is not None:
            messages.close()
        if self._listener is not None:
            self._listener.join()

    def _listen(self) -> None:
        told = False
        while not self._stop.is_set():
            try:
                with self._store.subscribe(keys.APPENDED) as messages:
                    self._messages = messages
                    told = False
                    self.call()  # what was appended before the subscription was there
                    while not self._stop.is_set() and not messages.closed:
                        # A gap is news too: messages are missing there.
                        if messages.get(0.5) is not None:
                            self.call()
            except StoreClosed:
                return
            except RootStreamError as error:
                if not told:
                    _log.warning("no wake-ups from Redis, looking every poll_interval: %s", error)
                told = True
            self._stop.wait(_RETRY_AFTER)


_shared_lock = threading.Lock()
_shared: dict[Store, tuple[Watch, int]] = {}


@contextlib.contextmanager
def watching(store: Store) -> Iterator[Watch]:
    """The watch of this store, which all who ask for it at the same time share."""
    with _shared_lock:
        watch, users = _shared.get(store) or (Watch(store), 0)
        if not users:
            watch.open()
        _shared[store] = watch, users + 1
    try:
        yield watch
    finally:
        with _shared_lock:
            watch, users = _shared.pop(store)
            if users > 1:
                _shared[store] = watch, users - 1
        if users == 1:
            watch.close()
