"""Calls of a store from several threads while a server misbehaves, and what came of them."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import pytest

from rootstream_store import Store, records, sessions, streams
from rootstream_store.cache import CacheCounters
from rootstream_store.errors import AuthenticationFailed
from rootstream_store.secret import Secret

from ..factories import make_stream, make_user

__all__ = ["Load", "records_of"]

_STREAMS = 6
_READERS = 3


@dataclass
class _Seen:
    calls: int = 0
    stale: list[str] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)
    slowest: tuple[float, str] = (0.0, "none")


class Load:
    """A writer and three readers in this process, a context manager. Nothing is slept for but a pause between
    calls that leaves the machine to the servers.

    The viewer figure of a stream only grows, so a reader knows the least that it must get: what was
    acknowledged before it asked. A session that was revoked must be refused from then on.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.user: records.User = make_user(store)
        self.streams = [make_stream(store, self.user.id).id for _ in range(_STREAMS)]
        for stream in self.streams:
            streams.start(store, stream)
        self.acknowledged = dict.fromkeys(self.streams, 0)
        self.revoked: list[Secret] = []
        self.token = sessions.create(store, self.user.id).token
        self.seen = _Seen()
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._repeat, args=(work, seed))
            for seed, work in enumerate([self._write] + [self._read] * _READERS)
        ]

    @property
    def calls(self) -> int:
        """Calls that were done so far."""
        return self.seen.calls

    @property
    def hits(self) -> int:
        return self.counters.hits

    @property
    def counters(self) -> CacheCounters:
        return self.store._cache.counters

    @contextmanager
    def no_writes(self) -> Iterator[None]:
        """No write is under way in the block."""
        with self._writing:
            yield

    def check(self, longest: float) -> None:
        """Fails the test for a wrong answer or an error; raises AssertionError for a call that took longer
        (seconds)."""
        seen = self.seen
        if seen.errors or seen.stale:
            pytest.fail(f"{seen.errors[:3]} {seen.stale[:3]}")
        assert seen.calls > 100, seen
        assert seen.slowest[0] < longest, seen.slowest

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive()

    def _repeat(self, work: Callable[[random.Random], None], seed: int) -> None:
        chance = random.Random(seed)
        try:
            while not self._ended.wait(0.002):
                work(chance)
        except BaseException as error:  # noqa: BLE001  # a thread's failure must fail the test, not vanish
            self.seen.errors.append(error)

    def _write(self, chance: random.Random) -> None:
        with self._writing:
            stream = chance.choice(self.streams)
            figure = self.acknowledged[stream] + 1
            with self._timed("update_stats"):
                streams.update_stats(self.store, stream, viewer_count=figure)
            self.acknowledged[stream] = figure
            if chance.random() < 0.1:
                with self._timed("create"):
                    token = sessions.create(self.store, self.user.id).token
                with self._timed("validate"):
                    sessions.validate(self.store, token)
                with self._timed("revoke"):
                    sessions.revoke(self.store, token)
                self.revoked.append(token)

    def _read(self, chance: random.Random) -> None:
        stream = chance.choice(self.streams)
        floor = self.acknowledged[stream]
        with self._timed("get_viewer_count"):
            figure = streams.get_viewer_count(self.store, stream)
        if figure < floor:
            self.seen.stale.append(f"stream {stream}: {figure} after {floor}")
        if self.revoked and chance.random() < 0.3:
            token = chance.choice(self.revoked[-5:])
            try:
                with self._timed("validate a revoked one"):
                    sessions.validate(self.store, token)
            except AuthenticationFailed:
                pass
            else:
                self.seen.stale.append("a revoked session was accepted")
        with self._timed("validate"):
            sessions.validate(self.store, self.token)

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            took = time.monotonic() - started
            with self._lock:
                self.seen.calls += 1
                self.seen.slowest = max(self.seen.slowest, (took, name))


def records_of(log: list[logging.LogRecord], text: str) -> list[str]:
    """The messages of our cache's log that hold this text."""
    return [
        record.getMessage()
        for record in log
        if record.name.startswith("rootstream_store.cache") and text in record.getMessage()
    ]
