"""Group append: the appends of many threads go out in one statement, each with a verdict of its own.

Threads that append to one busy aggregate otherwise queue for its head row, each for the length of a commit.
Here the first thread that comes sends what has gathered while the statement before was under way, for all of
them, and then hands that duty on. There is no thread and no delay of its own: a lone append goes out at once.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections import deque
from collections.abc import Sequence
from uuid import UUID

from rootstream_store.db import Db
from rootstream_store.errors import InvalidInput, RootStreamError, Unavailable
from rootstream_store.events._append import append, append_many
from rootstream_store.events._append_together import APPEND, AggregateEvents, params_of
from rootstream_store.events._keys import check_name, id_text
from rootstream_store.events._new_event import (
    ANY,
    EXISTS,
    MAX_BATCH_EVENTS,
    Expected,
    NewEvent,
    alone,
    check_events,
    check_expected,
    columns_of,
)
from rootstream_store.events._wake import wake
from rootstream_store.records import Appended

__all__ = ["Appender"]

Key = tuple[str, str]


class Appender:
    """Appends for many threads at once. One for a store, shared by its threads; nothing to close.

    `most`: events in one statement, 1 to 10,000. Worth its while for many threads on few aggregates, or where
    the disk is slow to commit. Each call is committed when it returns, so `store` is a Store, not a
    transaction.
    """

    def __init__(self, store: Db, *, most: int = 1000) -> None:
        if type(most) is not int or not 1 <= most <= MAX_BATCH_EVENTS:
            raise InvalidInput("most", f"must be an integer from 1 to {MAX_BATCH_EVENTS}", most)
        self._store = store
        self._most = most
        self._lock = threading.Lock()
        self._waiting: deque[_Request] = deque()
        self._is_led = False

    def append(
        self,
        aggregate_type: str,
        aggregate_id: str | int,
        event_type: str,
        data: object,
        *,
        expected: int | Expected = ANY,
        metadata: object = None,
        user_id: int | None = None,
        event_id: UUID | None = None,
        correlation_id: UUID | str | None = None,
        causation_id: UUID | str | None = None,
    ) -> Appended:
        """As `events.append`."""
        event = NewEvent(event_type, data, metadata, user_id, event_id, correlation_id, causation_id)
        columns_of([event], alone)  # what is wrong with it is told to its own thread
        return self._submit(_Request(aggregate_type, id_text(aggregate_id), [event], expected))[0]

    def append_many(
        self,
        aggregate_type: str,
        aggregate_id: str | int,
        events: Sequence[NewEvent],
        *,
        expected: int | Expected = ANY,
    ) -> list[Appended]:
        """As `events.append_many`."""
        check_events(events)
        columns_of(events)
        if not events:
            return []
        return self._submit(_Request(aggregate_type, id_text(aggregate_id), list(events), expected))

    def _submit(self, request: _Request) -> list[Appended]:
        check_expected(request.expected)
        check_name(request.aggregate_type, "aggregate_type")
        check_name(request.aggregate_id, "aggregate_id")
        try:
            with self._lock:
                self._waiting.append(request)
                request.is_leader, self._is_led = not self._is_led, True
            if not request.is_leader:
                request.called.wait()
            if request.is_leader:
                self._lead(request)
        except BaseException:
            self._withdraw(request)
            raise
        if request.error is not None:
            raise request.error
        if request.appended is not None:
            return request.appended
        # Refused in its group, or the group was: alone it is done, or learns why not.
        return self._alone(request)

    def _alone(self, request: _Request) -> list[Appended]:
        target = self._store, request.aggregate_type, request.aggregate_id
        if len(request.events) > 1:
            return append_many(*target, request.events, expected=request.expected)
        event = request.events[0]
        one = append(
            *target,
            event.event_type,
            event.data,
            expected=request.expected,
            metadata=event.metadata,
            user_id=event.user_id,
            event_id=event.event_id,
            correlation_id=event.correlation_id,
            causation_id=event.causation_id,
        )
        return [one]

    def _lead(self, own: _Request) -> None:
        """Sends one group, in which the leader's own request is, and hands on."""
        group: list[_Request] = []
        try:
            own.has_led = True
            with self._lock:
                self._fill(group)
            if len(group) > 1:
                self._send(group)
            else:
                own.appended = self._alone(own)  # now, so that others gather behind it
        except RootStreamError as error:
            # A value that the server refuses is the fault of one of them: each tries for itself. What was
            # lost may have been applied.
            is_lost = isinstance(error, Unavailable) and error.outcome_unknown
            for request in group:
                if len(group) == 1 or (is_lost and not request.is_repeatable):
                    request.error = error
        except BaseException:
            # This thread was told to stop in the midst of it; the others do not know how far it came.
            for request in group:
                request.error = Unavailable("the thread that appended was interrupted", outcome_unknown=True)
            raise
        finally:
            self._hand_on(group)

    def _hand_on(self, done: list[_Request]) -> None:
        with self._lock:
            if self._waiting:
                self._waiting[0].is_leader = True
                self._waiting[0].called.set()
            else:
                self._is_led = False
        for request in done:
            request.called.set()

    def _withdraw(self, request: _Request) -> None:
        """Of a thread that was told to stop while it waited, or before it came to lead."""
        with self._lock, contextlib.suppress(ValueError):
            self._waiting.remove(request)
        if request.is_leader and not request.has_led:
            self._hand_on([])

    def _fill(self, group: list[_Request]) -> None:
        """As many as one statement can judge: for each aggregate at most one that expects a version, before
        any that takes whatever there is. The others keep their place."""
        seen: set[Key] = set()
        held: set[Key] = set()
        count = 0
        for request in list(self._waiting):
            if count >= self._most:
                break
            is_strict = request.expected is not ANY
            if request.key in held or (is_strict and request.key in seen):
                held.add(request.key)
                continue
            if is_strict and request.expected is not EXISTS:
                held.add(request.key)  # whoever comes after it must not be refused with it
            seen.add(request.key)
            count += len(request.events)
            group.append(request)  # first: one that is in both is called all the same
            self._waiting.remove(request)

    def _send(self, group: list[_Request]) -> None:
        of: dict[Key, list[_Request]] = {}
        for request in group:
            of.setdefault(request.key, []).append(request)
        appends = [
            AggregateEvents(*key, [event for one in requests for event in one.events], requests[0].expected)
            for key, requests in of.items()
        ]
        if sum(len(one.events) for one in appends) > MAX_BATCH_EVENTS:
            return  # the last one was large: each goes alone
        appended = self._store.all(APPEND, **params_of(appends, is_atomic=False)[0])
        if appended:
            self._store.flow(wake(max(one.position for one in appended)))
        results: dict[Key, list[Appended]] = {}
        for one in sorted(appended, key=lambda one: one.position):
            results.setdefault((one.aggregate_type, one.aggregate_id), []).append(
                Appended(
                    version=one.version, position=one.position, event_id=one.event_id, timestamp=one.timestamp
                )
            )
        for key, made in results.items():
            rest = iter(made)
            for request in of[key]:
                request.appended = list(itertools.islice(rest, len(request.events)))


class _Request:
    __slots__ = (
        "aggregate_id",
        "aggregate_type",
        "appended",
        "called",
        "error",
        "events",
        "expected",
        "has_led",
        "is_leader",
    )

    def __init__(
        self, aggregate_type: str, aggregate_id: str, events: Sequence[NewEvent], expected: int | Expected
    ) -> None:
        self.aggregate_type = aggregate_type
        self.aggregate_id = aggregate_id
        self.events = events
        self.expected = expected
        self.called = threading.Event()
        """Set when it is done, or has to lead."""
        self.is_leader = self.has_led = False
        self.appended: list[Appended] | None = None
        self.error: RootStreamError | None = None

    @property
    def key(self) -> Key:
        return self.aggregate_type, self.aggregate_id

    @property
    def is_repeatable(self) -> bool:
        return any(event.event_id is not None for event in self.events)
