"""What a member does with the partitions that it has: one batch of each in turn, and what fails one by one.

The transaction of a batch begins with the fenced advance of the checkpoint, then runs the handler: what the
handler wrote and the new position are committed together. An event at fault is tried again with growing
pauses and then parked; a database that cannot be reached, or another transaction in the way, is nobody's
fault, and is waited out.
"""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from rootstream_store.errors import RootStreamError, Timeout, Unavailable
from rootstream_store.events._checkpoint import Member, read_page
from rootstream_store.events._parked import error_text, park
from rootstream_store.records import Checkpoint, Event
from rootstream_store.store import Store
from rootstream_store.transaction import Transaction

__all__ = ["Consumer", "Handler", "OnError", "Options", "is_passing"]

_log = logging.getLogger("rootstream_store.events")

Handler = Callable[[Transaction, Any], object]
"""Called with the open transaction and an Event, or with `batch=True` a list of them."""
OnError = Callable[[Event, Exception, int, bool], object]
"""Called after a failed attempt with the event, the error, the attempts so far, and whether it is parked."""

WINDOW = 100_000
"""Positions that one statement goes through at most, whatever the filter leaves of them."""
_SAVE_AFTER = 5.0
"""Seconds between two checkpoints where all events are passed over."""
_STANDBY = 2.0
"""Seconds between the looks of a member that has no partition."""
_LONGEST_PAUSE = 30.0
_LONGEST_TROUBLE = 5.0


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How a subscription reads; as the arguments of Subscription."""

    name: str
    event_types: tuple[str, ...] | None
    aggregate_type: str | None
    batch_size: int
    partitions: int
    max_attempts: int
    retry_pause: float
    is_batch: bool


class _Lost(Exception):
    """The partition is another member's, or its checkpoint was moved."""


class _Failed(Exception):
    """The handler, or the commit of what it did, failed."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class _Held:
    """A partition while the member has it. `stored`: the position of the checkpoint; `position`: how far was
    read, with no event in between that is to be handled."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.partition = checkpoint.partition
        self.stored = self.position = checkpoint.position
        # Up to here one event at a time: one of them fails.
        self.single_until = checkpoint.failed_position
        self.retry_at = 0.0
        self.troubles = 0
        self.saved_at = time.monotonic()


class Consumer:
    """For one thread. `prepare` is run before the handler in each transaction."""

    def __init__(
        self,
        store: Store,
        options: Options,
        member: Member,
        handler: Handler,
        prepare: Callable[[Transaction], object],
        on_error: OnError | None,
        stopping: threading.Event,
    ) -> None:
        self._store = store
        self._options = options
        self._member = member
        self._handler = handler
        self._prepare = prepare
        self._on_error = on_error
        self._stopping = stopping
        self._held: dict[int, _Held] = {}
        self._claim_at = 0.0
        self.handled = 0
        """Events handled or parked."""

    @property
    def position(self) -> int | None:
        """How far all partitions have come that it has. None: it has none."""
        return min((held.position for held in self._held.values()), default=None)

    def claim(self) -> None:
        """Renews the leases and takes its share, when a third of their time is over or one was lost."""
        now = time.monotonic()
        if now < self._claim_at:
            return
        checkpoints = self._member.claim(self._store)
        held = {}
        for checkpoint in checkpoints:
            known = self._held.get(checkpoint.partition)
            as_before = known is not None and known.stored == checkpoint.position
            held[checkpoint.partition] = known if known and as_before else _Held(checkpoint)
        self._held = held
        third = self._member.lease.total_seconds() / 3
        # Who has nothing to do looks more often for a partition that is given up.
        self._claim_at = now + (third if held else min(third, _STANDBY))

    def round(self, horizon: int) -> bool:
        """A batch of each partition, up to the horizon. False: there was nothing to do in any."""
        moved = False
        for held in list(self._held.values()):
            if self._stopping.is_set():
                break
            if time.monotonic() < held.retry_at:
                continue
            held.retry_at = 0.0
            try:
                moved = self._step(held, horizon) or moved
                held.troubles = 0
            except _Lost:
                self._held.pop(held.partition, None)
                self._claim_at = 0.0
                moved = True
            except Exception as error:
                if not is_passing(error):
                    raise
                self._wait_out(held, error)
        return moved

    def idle_for(self, longest: float) -> float:
        """Seconds until there is something to do by itself."""
        ends = [self._claim_at, *(held.retry_at for held in self._held.values() if held.retry_at)]
        now = time.monotonic()
        return min(longest, max(0.001, min(end for end in ends if end) - now) if any(ends) else longest)

    def save(self) -> int | None:
        """Stores how far was read, and tells it where there is one partition. None: it was lost."""
        try:
            for held in self._held.values():
                self._save(held)
        except _Lost:
            self._held = {}
            self._claim_at = 0.0
        return self.position

    def close(self) -> None:
        """Stores how far was read and gives up the partitions. Never raises: leases end by themselves."""
        try:
            for held in self._held.values():
                if held.single_until > held.position:
                    continue  # an event is being tried again: to move would forget its attempts
                with contextlib.suppress(_Lost):  # then it is not ours to give up
                    self._save(held)
            self._member.release(self._store)
        except RootStreamError as error:
            _log.warning("leases of %s are left to expire: %s", self._options.name, error)
        self._held = {}

    def _step(self, held: _Held, horizon: int) -> bool:
        to_position = min(horizon, held.position + WINDOW)
        if held.position >= to_position:
            if time.monotonic() - held.saved_at >= _SAVE_AFTER:
                self._save(held)
            return False
        options = self._options
        page = read_page(
            self._store,
            (held.partition, options.partitions),
            held.position,
            to_position,
            options.aggregate_type,
            options.event_types,
            options.batch_size,
        )
        end = page[-1].position if len(page) == options.batch_size else to_position
        if not page:
            held.position = end
            if end - held.stored >= WINDOW or time.monotonic() - held.saved_at >= _SAVE_AFTER:
                self._save(held)
            return True
        if len(page) > 1 and held.position >= held.single_until:
            try:
                self._deliver(held, page, end)
            except _Failed:
                # Nothing was applied, and which event it was is not known.
                held.single_until = page[-1].position
            else:
                return True
        for event in page:
            if self._stopping.is_set():
                break
            if not self._deliver_one(held, event, end if event is page[-1] else event.position):
                return False
        return True

    def _deliver(self, held: _Held, events: Sequence[Event], to_position: int) -> None:
        is_ours = False
        try:
            with self._store.transaction() as tx:
                if not self._member.advance(tx, held.partition, held.stored, to_position):
                    raise _Lost
                is_ours = True
                self._prepare(tx)
                if self._options.is_batch:
                    self._handler(tx, list(events))
                else:
                    for event in events:
                        self._handler(tx, event)
        except Exception as error:
            if not is_ours or is_passing(error):
                raise
            raise _Failed(error) from error
        self._moved(held, to_position, len(events))

    def _deliver_one(self, held: _Held, event: Event, to_position: int) -> bool:
        """False: it failed and is tried again later."""
        options = self._options
        try:
            self._deliver(held, [event], to_position)
        except _Failed as failed:
            error = failed.error
        else:
            return True
        text = f"{type(error).__qualname__}: {error_text(error, event)}"
        attempts = self._member.note_failure(self._store, held.partition, held.stored, event.position, text)
        if attempts is None:
            raise _Lost
        is_last = attempts >= options.max_attempts
        _log.log(
            logging.ERROR if is_last else logging.WARNING,
            "%s: event %d (%s) failed, attempt %d of %d%s: %s",
            options.name,
            event.position,
            event.event_type,
            attempts,
            options.max_attempts,
            ", parked" if is_last else "",
            text,
        )
        if is_last:
            with self._store.transaction() as tx:
                if not self._member.advance(tx, held.partition, held.stored, to_position):
                    raise _Lost
                park(tx, options.name, held.partition, event, attempts, error)
            self._moved(held, to_position, 1)
        else:
            held.single_until = max(held.single_until, event.position)
            pause = min(_LONGEST_PAUSE, options.retry_pause * 2 ** min(attempts - 1, 20))
            held.retry_at = time.monotonic() + random.uniform(0.5, 1.0) * pause
        self._tell(event, error, attempts, is_last)
        return is_last

    def _tell(self, event: Event, error: Exception, attempts: int, is_parked: bool) -> None:
        if self._on_error is None:
            return
        try:
            self._on_error(event, error, attempts, is_parked)
        except Exception:  # noqa: BLE001  # told only: what it does must not stop the events
            _log.exception("on_error of %s failed", self._options.name)

    def _moved(self, held: _Held, position: int, events: int) -> None:
        held.stored = held.position = position
        held.saved_at = time.monotonic()
        held.retry_at = 0.0
        self.handled += events

    def _save(self, held: _Held) -> None:
        held.saved_at = time.monotonic()
        if held.position == held.stored:
            return
        if not self._member.advance(self._store, held.partition, held.stored, held.position):
            raise _Lost
        held.stored = held.position

    def _wait_out(self, held: _Held, error: Exception) -> None:
        held.troubles += 1
        pause = min(_LONGEST_TROUBLE, 0.05 * 2 ** min(held.troubles, 10))
        held.retry_at = time.monotonic() + random.uniform(0.5, 1.0) * pause
        if held.troubles in (1, 10) or held.troubles % 100 == 0:
            kind = type(error).__qualname__
            _log.warning("%s waits, trouble %d: %s", self._options.name, held.troubles, kind)


def is_passing(error: BaseException | None) -> bool:
    """Whether it is a failure of the database that says nothing of the event, also where the handler raised
    another error for it."""
    seen = 0
    while error is not None and seen < 10:
        if isinstance(error, Unavailable | Timeout) or (
            isinstance(error, RootStreamError) and error.retryable
        ):
            return True
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        seen += 1
    return False
