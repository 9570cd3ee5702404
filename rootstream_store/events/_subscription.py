"""Subscriptions: durable readers of the log, each with a name, a checkpoint and a handler."""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from types import TracebackType
from typing import Literal, Self

from uuid_utils.compat import uuid7

from rootstream_store.errors import Conflict, InvalidInput, RootStreamError, StoreClosed, Timeout
from rootstream_store.events._checkpoint import Member, create
from rootstream_store.events._consumer import Consumer, Handler, OnError, Options, is_passing
from rootstream_store.events._horizon import get_horizon
from rootstream_store.events._parked import retry_parked
from rootstream_store.events._wake import Watch, watching
from rootstream_store.records import Event, Horizon, ParkedEvent
from rootstream_store.store import Store
from rootstream_store.transaction import Transaction

__all__ = ["MAX_PARTITIONS", "Subscription"]

_log = logging.getLogger("rootstream_store.events")

MAX_PARTITIONS = 1024
_MAX_BATCH = 10_000
_SHORTEST_LOOK = 0.005
_LONGEST_LOOK = 0.25
"""Seconds between looks while an append holds the horizon back: one that rolls back wakes nobody."""


class Subscription:
    """Hands the events of the log to `handler`, in the order of their positions, from where it left off.

    `handler(tx, event)` runs in a transaction that also moves the checkpoint: what it writes through `tx` is
    applied exactly once, whatever crashes; what it does elsewhere, at least once. With `batch=True` it is
    `handler(tx, events)`, one call a batch. It must not keep `tx`.

    `event_types`, `aggregate_type`: only these; None: all. `start`: where a new subscription begins:
    "beginning", "end" (what is appended from now on) or after a position. `batch_size`: most events of one
    transaction. `partitions`: into how many the events are split, by aggregate; several members of one name,
    in one process or many, share them, and each aggregate's events stay in order. The number is fixed when
    the subscription is made.

    An event whose handler fails is tried again after `retry_pause` seconds, then twice that and so on to 30
    s, and after `max_attempts` it is parked (`list_parked`) and the rest goes on; until then it holds up its
    partition. Failures of the database itself count for nothing and are waited out. `on_error` is called
    after each failed attempt: `on_error(event, error, attempts, is_parked)`.

    `poll_interval`: seconds between looks when nothing wakes it: an append does, through Redis.
    `lease_seconds`: how long others wait for a member that is silent; longer than a batch takes.

    Run it with `with subscription:` or `start()` on a thread of its own, with `run()` on this one, or with
    `catch_up()` to the end of the log and no further. Raises InvalidInput.
    """

    def __init__(
        self,
        store: Store,
        name: str,
        handler: Handler,
        *,
        event_types: Sequence[str] | None = None,
        aggregate_type: str | None = None,
        start: Literal["beginning", "end"] | int = "beginning",
        batch: bool = False,
        batch_size: int = 100,
        partitions: int = 1,
        max_attempts: int = 5,
        retry_pause: float = 0.5,
        poll_interval: float = 1.0,
        lease_seconds: float = 30.0,
        on_error: OnError | None = None,
    ) -> None:
        if not isinstance(name, str) or not 1 <= len(name) <= 255:
            raise InvalidInput("name", "must be 1 to 255 characters", name)
        if not callable(handler):
            raise InvalidInput("handler", "must be a function of a transaction and an event", handler)
        if isinstance(event_types, str):
            raise InvalidInput("event_types", "must be a list of event types", event_types)
        if start not in ("beginning", "end") and (type(start) is not int or start < 0):
            raise InvalidInput("start", 'must be "beginning", "end" or a position from 0 on', start)
        _whole("batch_size", batch_size, _MAX_BATCH)
        _whole("partitions", partitions, MAX_PARTITIONS)
        _whole("max_attempts", max_attempts, 1_000_000)
        _seconds("retry_pause", retry_pause, 0)
        _seconds("poll_interval", poll_interval, 0.001)
        _seconds("lease_seconds", lease_seconds, 0.1)
        self.name = name
        self._store = store
        self._handler = handler
        self._on_error = on_error
        self._start = start
        self._poll_interval = float(poll_interval)
        self._options = Options(
            name=name,
            event_types=None if event_types is None else tuple(event_types),
            aggregate_type=aggregate_type,
            batch_size=batch_size,
            partitions=partitions,
            max_attempts=max_attempts,
            retry_pause=retry_pause,
            is_batch=batch,
        )
        self._lease = timedelta(seconds=lease_seconds)
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._ended.set()
        self._reader: int | None = None
        self._stopping = threading.Event()
        self._watch: Watch | None = None
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    # --- running

    def run(self) -> None:
        """Reads until `stop()` is called by another thread. A database that is away is waited for.

        Raises Conflict when it is running already, or has another number of partitions, StoreClosed when the
        store is closed, and what cannot pass by itself, such as PermissionDenied.
        """
        self._begin()
        try:
            self._read(None, math.inf)
        finally:
            self._end()

    def start(self) -> Self:
        """Reads on a thread of its own until `stop()`. Raises as `run`, as far as it can be told at once."""
        self._begin()
        try:
            self.register()
            self._failure = None
            thread = threading.Thread(target=self._run_thread, name=f"rootstream-{self.name}", daemon=True)
            self._thread = thread
            thread.start()
        except BaseException:
            self._thread = None
            self._end()
            raise
        return self

    def stop(self, timeout: float = 30.0) -> None:
        """Ends the reading after the batch under way, whose handler is waited for, and gives up the leases.

        Raises Timeout when that takes longer than `timeout` seconds: it ends all the same when the handler
        returns. What ended a thread early is raised here. Does nothing when it is not running.
        """
        self._stopping.set()
        watch = self._watch
        if watch is not None:
            watch.call()
        if self._reader == threading.get_ident():  # called by the handler: it ends after this batch
            return
        if not self._ended.wait(timeout):
            raise Timeout(
                f"subscription {self.name!r} has not stopped within {timeout:g} s: its handler runs"
            )
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def catch_up(self, timeout: float | None = None) -> int:
        """Reads what is in the log now, up to the horizon, and tells how many events that were. Those that
        fail are tried again and parked as ever. Partitions that another member has are left to it.

        `timeout` in seconds; None: as long as it takes. Raises Timeout, and as `run`.
        """
        self._begin()
        try:
            self.register()
            target = get_horizon(self._store).position
            return self._read(target, math.inf if timeout is None else time.monotonic() + timeout)
        finally:
            self._end()

    @property
    def is_running(self) -> bool:
        """Whether it reads, in this object."""
        return not self._ended.is_set()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- more

    def register(self) -> None:
        """Makes its checkpoints, unless they are there: from then on no event is missed. The ways to run do
        this first. Raises Conflict when it has another number of partitions."""
        position = self._start
        if position == "beginning":
            position = 0
        elif position == "end":
            position = get_horizon(self._store).position
        assert isinstance(position, int)
        self._store.flow(create(self.name, self._options.partitions, position), atomic=True)

    def retry_parked(self, position: int) -> ParkedEvent:
        """As `events.retry_parked`, with its own handler."""
        return retry_parked(self._store, self.name, position, self._handle_one)

    # --- for projections

    def _prepare(self, tx: Transaction) -> None:
        """Run before the handler in each transaction."""

    # --- within

    def _handle_one(self, tx: Transaction, event: Event) -> None:
        self._prepare(tx)
        self._handler(tx, [event] if self._options.is_batch else event)

    def _begin(self) -> None:
        with self._lock:
            if self.is_running:
                raise Conflict(f"subscription {self.name!r} is running already, in this object")
            self._ended.clear()
            self._stopping.clear()

    def _end(self) -> None:
        self._reader = None
        self._ended.set()

    def _run_thread(self) -> None:
        try:
            self._read(None, math.inf)
        except StoreClosed:
            _log.info("subscription %s ends with its store", self.name)
        except BaseException as error:  # noqa: BLE001  # raised by stop()
            _log.error("subscription %s has ended: %s: %s", self.name, type(error).__name__, error)
            self._failure = error
        finally:
            self._end()

    def _read(self, target: int | None, deadline: float) -> int:
        self._reader = threading.get_ident()
        member = Member(self.name, uuid7(), self._lease)
        with watching(self._store) as watch:
            self._watch = watch
            consumer = Consumer(
                self._store,
                self._options,
                member,
                self._handler,
                self._prepare,
                self._on_error,
                self._stopping,
            )
            try:
                self._until_stopped(consumer, watch, target, deadline)
            finally:
                consumer.close()
                self._watch = None
        return consumer.handled

    def _until_stopped(self, consumer: Consumer, watch: Watch, target: int | None, deadline: float) -> None:
        troubles, is_registered, pause = 0, target is not None, _SHORTEST_LOOK
        horizon: Horizon | None = None
        moved = False
        while not self._stopping.is_set():
            calls = watch.calls
            # While there is more below the horizon known, there is no need for a newer one.
            is_fresh = horizon is None or not moved
            try:
                if not is_registered:
                    self.register()
                    is_registered = True
                consumer.claim()
                if target is not None and (consumer.position is None or consumer.position >= target):
                    return
                if horizon is None or is_fresh:
                    horizon = watch.look()
                moved = consumer.round(horizon.position)
                troubles = 0
            except RootStreamError as error:
                if not is_passing(error):
                    raise
                troubles += 1
                if troubles in (1, 10) or troubles % 100 == 0:
                    _log.warning("subscription %s waits, trouble %d: %s", self.name, troubles, error)
                self._stopping.wait(random.uniform(0.5, 1.0) * min(5.0, 0.05 * 2 ** min(troubles, 10)))
                horizon, moved = None, True
            if time.monotonic() >= deadline:
                raise Timeout(f"subscription {self.name!r} has not caught up in time; what it did is kept")
            if moved:
                pause = _SHORTEST_LOOK
                continue
            if not is_fresh:
                continue
            longest = self._poll_interval
            if horizon is not None and horizon.position < horizon.last_position:
                longest = min(longest, pause)
                pause = min(_LONGEST_LOOK, pause * 2)
            watch.wait(calls, consumer.idle_for(min(longest, max(0.0, deadline - time.monotonic()))))


def _whole(field: str, value: object, most: int) -> None:
    if type(value) is not int or not 1 <= value <= most:
        raise InvalidInput(field, f"must be a whole number from 1 to {most}", value)


def _seconds(field: str, value: object, least: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= 86_400:
        raise InvalidInput(field, f"must be a number of seconds from {least:g} to 86400", value)
