"""The programs of the coherence soak: writers that raise versions, readers that look whether an answer is
older than what was acknowledged before they asked.

What one process must know of another goes through shared memory: of each writer and user the last version
that was acknowledged, and of each version when that was. CLOCK_MONOTONIC is the same for all processes.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.context import SpawnContext
from multiprocessing.queues import Queue
from typing import Any

from rootstream_store import users
from rootstream_store.cache import keys
from rootstream_store.flow import Flow, one
from rootstream_store.store import Store

from ..statements import statement

__all__ = ["USERS", "Board", "Found", "read", "write"]

USERS = 8
_BURST = 200
_KEPT = 1 << 16
"""Acknowledged versions of one user whose time is kept."""

# Two writers do not know of each other: who is last in the row is last in the version.
_RAISE = statement(
    "UPDATE users SET display_name = (coalesce(display_name, '0')::bigint + 1)::text "
    "WHERE id = %(user_id)s::bigint RETURNING display_name::bigint",
    int,
    "users/raise",
)


class Board:
    """What the processes know of each other. `ids`: of the users."""

    def __init__(self, context: SpawnContext, ids: list[int], writers: int) -> None:
        self.ids = ids
        self.writers = writers
        self._last = context.RawArray("q", writers * USERS)
        self._times = context.RawArray("d", _KEPT * USERS)
        self.ends_at = context.RawValue("d", 0.0)

    def acknowledge(self, writer: int, user: int, version: int) -> None:
        """Told by the writer as soon as its call has returned."""
        self._times[user * _KEPT + version % _KEPT] = time.monotonic()
        self._last[writer * USERS + user] = version

    def last(self, user: int) -> int:
        """No answer that is asked for from now on may be older."""
        return max(int(self._last[writer * USERS + user]) for writer in range(self.writers))

    def outdated_since(self, user: int, version: int, last: int) -> float:
        """When the first version after this one was acknowledged, of those up to `last`."""
        times = (self._times[user * _KEPT + number % _KEPT] for number in range(version + 1, last + 1))
        return min((time_ for time_ in times if time_), default=time.monotonic())

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= float(self.ends_at.value)


@dataclass
class Found:
    """What a process saw. `lags`: of each answer that was too old, for how long it had been, in seconds."""

    name: str
    reads: int = 0
    writes: int = 0
    lags: list[float] = field(default_factory=list)
    counters: dict[str, int] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)


def read(name: str, board: Board, settings: dict[str, Any], threads: int, results: Queue[Found]) -> None:
    """A process of so many readers."""
    found = Found(name)
    with Store.open(**settings) as store:

        def work(chance: random.Random, own: Found) -> None:
            for _ in range(_BURST):
                look(chance.randrange(USERS), own)
            # A thread that only reads would keep the interpreter from the one that listens to Redis.
            threading.Event().wait(0.002)

        def look(user: int, own: Found) -> None:
            last = board.last(user)
            asked_at = time.monotonic()
            version = int(users.get(store, board.ids[user]).display_name or 0)
            own.reads += 1
            if version < last:
                own.lags.append(asked_at - board.outdated_since(user, version, last))

        _in_threads(work, board, found, threads)
        found.counters = _counters(store)
    results.put(found)


def write(
    name: str, board: Board, settings: dict[str, Any], first: int, threads: int, results: Queue[Found]
) -> None:
    """A process of writers, with the numbers from `first` on. Each reads what it has written."""
    found = Found(name)
    numbers = iter(range(first, first + threads))
    local = threading.local()
    with Store.open(**settings) as store:

        def work(chance: random.Random, own: Found) -> None:
            if not hasattr(local, "number"):
                local.number = next(numbers)
            user = chance.randrange(USERS)
            user_id = board.ids[user]
            version = store.flow(_raise(user_id), invalidates=[keys.user(user_id)])
            board.acknowledge(local.number, user, version)
            own.writes += 1
            # Of its own process's writes nothing may be behind, not even for a moment.
            if int(users.get(store, user_id).display_name or 0) < version:
                own.errors.append(f"version {version} of user {user_id} was not there after its own write")
            threading.Event().wait(chance.random() * 0.02)

        _in_threads(work, board, found, threads)
    results.put(found)


def _raise(user_id: int) -> Flow[int]:
    version: int = yield from one(_RAISE, user_id=user_id)
    return version


def _in_threads(
    work: Callable[[random.Random, Found], None], board: Board, found: Found, threads: int
) -> None:
    parts = [Found(found.name) for _ in range(threads)]

    def run(part: Found) -> None:
        chance = random.Random()
        try:
            while not board.is_over:
                work(chance, part)
        except BaseException as error:  # noqa: BLE001  # a thread's failure must fail the test, not vanish
            part.errors.append(f"{type(error).__name__}: {error}")

    running = [threading.Thread(target=run, args=(part,)) for part in parts]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    for part in parts:
        found.reads += part.reads
        found.writes += part.writes
        found.lags += part.lags
        found.errors += part.errors


def _counters(store: Store) -> dict[str, int]:
    counters = store.health().redis.counters
    return {"hits": counters.hits, "misses": counters.misses, "near": counters.near.hits}
