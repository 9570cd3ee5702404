"""The sweep: removing from Redis what committed changes made untrue, whoever made them.

Triggers note each such key in the table cache_invalidations, in the transaction of the change. Writers remove
their keys themselves; this is the net under them: for a writer that died between its commit and the removal,
that could not reach Redis, or that is psql. Every process that uses the cache looks into the table, so that
one that lives is enough.

A look reads, removes in Redis, then forgets: three steps and no transaction around them. A process that stops
in between holds nothing that the others wait for, and what it did is done again, which does no harm.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from typing import Any

import msgspec

from rootstream_store.cache import Cache
from rootstream_store.database import READ_ONLY, Connection, Pool, execute, fetch_all, fetch_one
from rootstream_store.errors import Conflict, RootStreamError, StoreClosed, Unavailable
from rootstream_store.queries import Query, query

__all__ = ["IDLE_INTERVAL", "INTERVAL", "Backlog", "Invalidations", "get_backlog"]

INTERVAL = 0.5
"""Seconds between two looks while the cache is in use."""
IDLE_INTERVAL = 5.0
"""Seconds between two looks while it is not, or where the table cannot be read."""
_BATCH = 1000
"""Keys in one step: as many as one command to Redis does well within its timeout."""
_MOST_COUNTED = 100_000
_FIRST_LOOK = 0.2
"""Seconds that a caller spends on what was there before its first cached answer."""
_CLOSE_WAIT = 1.0
_READ_ONLY_PAUSE = 10.0
"""Seconds until a read-only server, which may have become the primary, is asked again to forget."""
_MISSING = ("42P01", "42501")
"""SQLSTATEs: there is no such table, there is no right to it."""

_log = logging.getLogger("rootstream_store.cache")


class _Invalidation(msgspec.Struct, frozen=True, kw_only=True):
    id: int
    key: str


class Backlog(msgspec.Struct, frozen=True, kw_only=True):
    """Invalidations that wait for a store with a Redis."""

    waiting: int
    """At most 100,000 are counted."""
    oldest_seconds: float | None
    """Age of the oldest. None: none waits."""


_LIST = query("cache/list_invalidations", _Invalidation)
_DELETE: Query[Any] = query("cache/delete_invalidations")
_GET_BACKLOG = query("cache/get_backlog", Backlog)


class Invalidations:
    """Thread-safe. One thread of its own, from the first `ready` on until `close`."""

    def __init__(self, pool: Pool, cache: Cache) -> None:
        self._pool = pool
        self._cache = cache
        self._process = os.getpid()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._woken = threading.Event()
        self._stopped = threading.Event()
        self._is_failing = self._is_refused = False
        self._look_again_at = self._delete_again_at = 0.0
        self.is_resting = False
        """The thread looks seldom, since nobody seemed to use the cache: say so with `wake`."""
        self.is_ready = False
        """Everything that this process found in the table is removed, and it did look. Otherwise nothing from
        Redis can be trusted: the change may be older than this process, or Redis back since a moment."""

    def begin(self) -> bool:
        """Look for the first time and start the thread. Returns `is_ready`; a later look may make it so.

        Takes 0.2 s at most: where more waits, after an outage of Redis say, it is the thread's to go on.
        Raises what a query raises, but not where asking PostgreSQL again may help: the caller does."""
        with self._starting:
            if self.is_ready or time.monotonic() < self._look_again_at:
                return self.is_ready
            self._look_again_at = time.monotonic() + INTERVAL
            if self._thread is None and not self._stopped.is_set():
                thread = threading.Thread(target=self._run, name="rootstream-sweep", daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:
                    # No more threads, or the interpreter is ending. Other processes sweep as well.
                    _log.warning("no thread to sweep invalidations in: %s", error)
                else:
                    self._thread = thread
        try:
            end = time.monotonic() + _FIRST_LOOK
            after_id: int | None = 0
            while after_id is not None:
                _, after_id = self._step(after_id)
                if time.monotonic() >= end:
                    self._woken.set()
                    break
        except RootStreamError as error:
            if error.sqlstate in _MISSING:
                # An older schema, or rights that were not given again after its migration: as it was without.
                self._tell(error)
                self.is_ready = True
            elif not isinstance(error, Conflict | Unavailable) or not error.retryable:
                raise
        return self.is_ready

    def wake(self) -> None:
        """The cache is in use again: look soon."""
        self.is_resting = False
        self._woken.set()

    def sweep(self) -> int:
        """Remove everything that is there now; returns how many invalidations. Fewer than all where Redis
        does not take them. Raises what a query raises."""
        total = 0
        after_id: int | None = 0
        while after_id is not None:
            removed, after_id = self._step(after_id)
            total += removed
            if self._stopped.is_set():
                break
        return total

    def _step(self, after_id: int) -> tuple[int, int | None]:
        """Remove some; returns how many, and the id of the last one where there may be more."""
        batch = self._list(after_id)
        left = set(self._cache.drop(invalidation.key for invalidation in batch)) if batch else set()
        # Of several servers one may be away for long: then those keys alone are no hits.
        if left and not self._cache.withholds_keys:
            self.is_ready = False
            return 0, None
        is_whole = len(batch) < _BATCH
        if is_whole:
            self.is_ready = True
        removed = [invalidation.id for invalidation in batch if invalidation.key not in left]
        return self._delete(removed) if removed else 0, None if is_whole else batch[-1].id

    def stop(self) -> None:
        """Have the thread end soon, and start none."""
        # A forked child has no such thread, and the locks of these events may be held there for ever.
        if self._process == os.getpid():
            self._stopped.set()
            self._woken.set()

    def close(self) -> None:
        """Stop the thread; in the midst of a statement it is waited for 1 s at most. May be repeated."""
        self.stop()
        thread = self._thread
        if thread is not None and self._process == os.getpid() and thread is not threading.current_thread():
            thread.join(_CLOSE_WAIT)

    def _run(self) -> None:
        uses = self._cache.uses
        woken = False
        while not self._stopped.is_set():
            used, uses = uses, self._cache.uses
            # Whoever woke us may not have counted its use yet.
            self.is_resting = used == uses and not woken and not self._is_refused
            # Not longer while PostgreSQL is away: cached answers are served on, and must end soon when it is
            # back.
            rests = self._is_refused or (self.is_resting and (self.is_ready or self._is_failing))
            pause = IDLE_INTERVAL if rests else INTERVAL
            # Jitter, so that processes that were started together do not look together.
            woken = self._woken.wait(pause * random.uniform(0.8, 1.2))
            self._woken.clear()
            if self._stopped.is_set():
                return
            try:
                self._cache.recheck()
                self.sweep()
            except StoreClosed:
                return
            except RootStreamError as error:
                self._tell(error)
            except Exception:  # noqa: BLE001  # whatever it was, the thread has to go on
                _log.exception("looking for invalidations failed")
                self._is_failing = True
            else:
                self._is_failing = self._is_refused = False

    def _tell(self, error: RootStreamError) -> None:
        self._is_refused = error.sqlstate in _MISSING
        if not self._is_failing:
            self._is_failing = True
            _log.warning("invalidations of the cache cannot be swept, trying again: %s", error)

    def _list(self, after_id: int) -> list[_Invalidation]:
        connection = self._pool.acquire()
        try:
            return fetch_all(connection, _LIST, {"after_id": after_id, "limit": _BATCH})
        finally:
            self._pool.release(connection)

    def _delete(self, ids: list[int]) -> int:
        if time.monotonic() < self._delete_again_at:
            return 0
        connection = self._pool.acquire()
        try:
            return execute(connection, _DELETE, {"ids": ids}).count
        except Unavailable as error:
            # A standby: it is for a process on the primary to forget them. The connection is closed for this.
            if error.sqlstate != READ_ONLY:
                raise
            self._delete_again_at = time.monotonic() + _READ_ONLY_PAUSE
            return 0
        finally:
            self._pool.release(connection)


def get_backlog(connection: Connection) -> Backlog:
    """What waits now. Raises what a query raises."""
    backlog = fetch_one(connection, _GET_BACKLOG, {"limit": _MOST_COUNTED})
    assert backlog is not None  # it counts
    return backlog
