"""The event log against a model of it: random calls in any order, in transactions and savepoints that are
committed or rolled back, and each answer is what the model says.

To add a call: a rule here, and in model.py what it does. While a transaction is open all rules run in it, but
`append_beside`.
"""

from __future__ import annotations

import itertools
import os
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, ClassVar

import msgspec
import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

from rootstream_store import events
from rootstream_store.db import Db
from rootstream_store.errors import NotFound, RootStreamError, VersionConflict
from rootstream_store.events import ANY, EXISTS, NO_STREAM, Expected, Fold, NewEvent
from rootstream_store.records import Appended, Event
from rootstream_store.store import Store

from ..servers import Servers
from .model import Aggregate, Key, Model, Written, chosen, folded

_numbers = itertools.count(1)

TYPES = ("Added", "Removed", "Renamed")
KEYS = st.sampled_from([("Stream", "x"), ("Stream", "y"), ("User", "x")])
NEW = st.builds(
    NewEvent,
    event_type=st.sampled_from(TYPES),
    data=st.fixed_dictionaries({"n": st.integers(-(2**70), 2**70)}),
    user_id=st.none() | st.integers(1, 2),
)
VERSIONS = st.integers(0, 12)
FILTERS = st.none() | st.lists(st.sampled_from(TYPES), max_size=2)
MODES = st.sampled_from(["any", "any", "new", "existing", "right", "right", "wrong"])


Append = Callable[[Db, Key, int | Expected], Sequence[Appended]]


class Sums(msgspec.Struct):
    """The state of schema version 1."""

    total: int = 0
    types: dict[str, int] = {}


def summed(state: Sums, event: Event) -> Sums:
    state.total += event.event_data["n"]
    state.types[event.event_type] = event.version
    return state


def listed(state: list[tuple[int, int]], event: Event) -> list[tuple[int, int]]:
    return [*state, (event.version, event.event_data["n"])]


# Two shapes, each with and without snapshots: whichever was loaded before, the state is the same.
FOLDS: list[Fold[Any]] = [
    Fold(summed, Sums, snapshot_every=3, keep_snapshots=2),
    Fold(summed, Sums, snapshot_every=5, keep_snapshots=1),
    Fold(summed, Sums, snapshot_every=None),
    Fold(
        listed, list, schema_version=2, snapshot_every=2, keep_snapshots=3, state_type=list[tuple[int, int]]
    ),
    Fold(listed, list, schema_version=None),
]


def as_event(written: Written) -> Event:
    """As much of it as a fold looks at."""
    return Event(
        position=written.position,
        aggregate_type=written.key[0],
        aggregate_id=written.key[1],
        version=written.version,
        event_type=written.event_type,
        event_id=None,  # type: ignore[arg-type]  # not looked at
        event_data=written.data,
        metadata=None,
        user_id=written.user_id,
        timestamp=written.timestamp,
    )


def as_written(event: Event) -> Written:
    return Written(
        key=(event.aggregate_type, event.aggregate_id),
        version=event.version,
        event_type=event.event_type,
        data=event.event_data,
        user_id=event.user_id,
        position=event.position,
        timestamp=event.timestamp,
    )


class RolledBack(Exception):
    """Ends a transaction."""


class EventLog(RuleBasedStateMachine):
    store: ClassVar[Store]
    seen: ClassVar[Counter[str]] = Counter()
    """How often what matters happened, so that a machine that hardly does anything is noticed."""

    @initialize()
    def begin_anew(self) -> None:
        """Other names than those of the examples before."""
        self.prefix = f"{next(_numbers)}-"
        self.start = self.drawn = events.get_horizon(self.store).last_position
        self.model = Model()
        self.db: Db = self.store
        # Of the transaction and each savepoint: how to end it, and what to go back to.
        self.open: list[tuple[AbstractContextManager[Db], Db, Model, int | None]] = []
        # The last position drawn before the transaction appended: up to there a reader sees everything.
        self.watermark: int | None = None

    def key(self, key: Key) -> Key:
        return key[0], self.prefix + key[1]

    # --- transactions

    @precondition(lambda self: len(self.open) < 3)
    @rule()
    def begin(self) -> None:
        block: AbstractContextManager[Db] = self.db.transaction()
        self.open.append((block, self.db, self.model.copy(), self.watermark))
        self.db = block.__enter__()

    @precondition(lambda self: self.open)
    @rule()
    def commit(self) -> None:
        self.seen["commit"] += 1
        block, self.db, _, _ = self.open.pop()
        block.__exit__(None, None, None)
        if not self.open:
            self.watermark = None

    @precondition(lambda self: self.open)
    @rule()
    def roll_back(self) -> None:
        self.seen["roll back"] += 1
        block, self.db, model, self.watermark = self.open.pop()
        beside = self.model.aggregates.get(self.key(("Stream", "beside")))
        self.model = model
        if beside is not None:  # committed by itself
            self.model.aggregates[self.key(("Stream", "beside"))] = beside
        error = RolledBack()
        assert not block.__exit__(RolledBack, error, None)

    # --- writing

    @rule(key=KEYS, mode=MODES, new=NEW)
    def append(self, key: Key, mode: str, new: NewEvent) -> None:
        self.append_events(
            self.key(key),
            mode,
            [new],
            lambda db, key, expected: [
                events.append(db, *key, new.event_type, new.data, expected=expected, user_id=new.user_id)
            ],
        )

    @rule(key=KEYS, mode=MODES, new=st.lists(NEW, max_size=7))
    def append_many(self, key: Key, mode: str, new: list[NewEvent]) -> None:
        if not new:
            assert events.append_many(self.db, *self.key(key), [], expected=99) == []
            return
        self.append_events(
            self.key(key),
            mode,
            new,
            lambda db, key, expected: events.append_many(db, *key, new, expected=expected),
        )

    @rule(key=KEYS, mode=MODES, new=st.lists(NEW, min_size=1, max_size=3), again=st.booleans())
    def append_by_id(self, key: Key, mode: str, new: list[NewEvent], again: bool) -> None:
        """With ids of the caller's: made again it returns the first result, whatever was appended since."""
        new = [msgspec.structs.replace(event, event_id=uuid.uuid4()) for event in new]
        before = self.model.of(self.key(key)).version
        self.append_events(
            self.key(key),
            mode,
            new,
            lambda db, key, expected: events.append_many(db, *key, new, expected=expected),
        )
        found = self.model.of(self.key(key)).events[before:]
        if not found:
            return
        if again:
            self.append(key, "any", new[0])
        repeated = events.append_many(self.db, *self.key(key), new, expected=ANY)
        assert [one.position for one in repeated] == [event.position for event in found[: len(new)]]
        self.seen["repeat"] += 1

    @rule(modes=st.lists(MODES, min_size=3, max_size=3), new=st.lists(NEW, min_size=1, max_size=3))
    def append_together(self, modes: list[str], new: list[NewEvent]) -> None:
        keys = [self.key(key) for key in (("Stream", "x"), ("User", "x"), ("Stream", "y"))]
        expected = [
            self.expected(mode, self.model.of(key).version) for mode, key in zip(modes, keys, strict=True)
        ]
        appends = [
            events.AggregateEvents(*key, new, version) for key, version in zip(keys, expected, strict=True)
        ]
        refusals = [self.model.refusal(key, version) for key, version in zip(keys, expected, strict=True)]
        refusal = next((refusal for refusal in refusals if refusal is not None), None)
        if self.open and self.watermark is None:
            self.watermark = self.drawn
        if refusal is None:
            for key, appended in zip(keys, events.append_together(self.db, appends), strict=True):
                self.record(key, new, appended)
            self.seen["together"] += 1
            return
        with pytest.raises(RootStreamError) as caught:
            events.append_together(self.db, appends)
        assert type(caught.value) is refusal[0]
        if isinstance(caught.value, VersionConflict):
            assert caught.value.actual == refusal[1]
        self.seen["refused together"] += 1

    def append_events(self, key: Key, mode: str, new: Sequence[NewEvent], call: Append) -> None:
        """Appends by `call` and holds the outcome against the model."""
        version = self.model.of(key).version
        expected = self.expected(mode, version)
        if self.open and self.watermark is None:
            self.watermark = self.drawn
        refusal = self.model.refusal(key, expected)
        if refusal is not None:
            kind, actual = refusal
            with pytest.raises(RootStreamError) as caught:
                call(self.db, key, expected)
            assert type(caught.value) is kind
            self.seen[kind.__name__] += 1
            if isinstance(caught.value, VersionConflict):
                assert (caught.value.actual, caught.value.expected) == (actual, expected)
            return
        self.record(key, new, call(self.db, key, expected))

    @staticmethod
    def expected(mode: str, version: int) -> int | Expected:
        if mode in ("right", "wrong"):
            return version + (mode == "wrong")
        return {"any": ANY, "new": NO_STREAM, "existing": EXISTS}[mode]

    def record(self, key: Key, new: Sequence[NewEvent], appended: Sequence[Appended]) -> None:
        assert len(appended) == len(new)
        for event, place in zip(new, appended, strict=True):
            assert place.position > self.drawn
            self.drawn = place.position
            self.seen["event"] += 1
            self.model.append(
                Written(
                    key,
                    place.version,
                    event.event_type,
                    event.data,
                    event.user_id,
                    place.position,
                    place.timestamp,
                )
            )

    @precondition(lambda self: self.open)
    @rule(new=NEW)
    def append_beside(self, new: NewEvent) -> None:
        """Outside the open transaction, committed at once."""
        key = self.key(("Stream", "beside"))
        appended = events.append(self.store, *key, new.event_type, new.data, user_id=new.user_id)
        self.record(key, [new], [appended])

    @rule(key=KEYS, right=st.booleans(), mode=MODES, new=NEW)
    def close(self, key: Key, right: bool, mode: str, new: NewEvent) -> None:
        key = self.key(key)
        aggregate = self.model.of(key)
        expected = aggregate.version if right and aggregate.version else aggregate.version + 1
        if aggregate.version == 0 or not right:
            with pytest.raises(NotFound if aggregate.version == 0 else VersionConflict):
                events.close(self.db, *key, expected=expected)
            return
        assert events.close(self.db, *key, expected=expected).is_closed
        aggregate.is_closed = True
        self.append_many((key[0], key[1].removeprefix(self.prefix)), mode, [new])

    @rule(key=KEYS)
    def reopen(self, key: Key) -> None:
        key = self.key(key)
        aggregate = self.model.of(key)
        if aggregate.version == 0:
            with pytest.raises(NotFound):
                events.reopen(self.db, *key)
            return
        assert not events.reopen(self.db, *key).is_closed
        aggregate.is_closed = False

    # --- folding

    @rule(key=KEYS, folds=st.lists(st.sampled_from(FOLDS), min_size=1, max_size=4))
    def load(self, key: Key, folds: list[Fold[Any]]) -> None:
        key = self.key(key)
        for fold in folds:
            state = self.check_load(key, fold, None)
            if fold.schema_version is None:
                continue
            self.seen["snapshot read"] += bool(self.model.of(key).newest_snapshot(fold.schema_version))
            self.seen["snapshot saved"] += self.model.loaded(
                key, fold.schema_version, fold.snapshot_every, fold.keep_snapshots, state
            )
            self.check_snapshots(self.db, key, self.model.of(key))

    @rule(key=KEYS, fold=st.sampled_from(FOLDS), to_version=VERSIONS)
    def load_as_of(self, key: Key, fold: Fold[Any], to_version: int) -> None:
        self.check_load(self.key(key), fold, to_version)

    @rule(
        key=KEYS,
        new=st.lists(NEW, min_size=1, max_size=5),
        folds=st.lists(st.sampled_from(FOLDS), min_size=1),
    )
    def append_and_load(self, key: Key, new: list[NewEvent], folds: list[Fold[Any]]) -> None:
        """What programs do: events, a load, further events."""
        self.append_many(key, "any", new)
        self.load(key, folds)

    def check_load(self, key: Key, fold: Fold[Any], to_version: int | None) -> Any:
        found = self.model.of(key).events[:to_version]
        loaded = events.load(self.db, *key, fold, to_version=to_version)
        assert loaded.state == folded(fold.apply, fold.initial(), [as_event(event) for event in found])
        assert loaded.version == len(found)
        assert loaded.position == (found[-1].position if found else 0)
        return loaded.state

    @rule(key=KEYS, fold=st.sampled_from(FOLDS), version=VERSIONS, right=st.booleans())
    def save_snapshot(self, key: Key, fold: Fold[Any], version: int, right: bool) -> None:
        key = self.key(key)
        # The third shape is read by no fold: there any state will do.
        schema_version = (fold.schema_version or 1) if right else 3
        of = FOLDS[0] if schema_version == 1 else fold
        past = [as_event(event) for event in self.model.of(key).events[:version]]
        state = folded(of.apply, of.initial(), past) if right else {"version": version}
        refusal = self.model.save(key, version, schema_version, state)
        save: dict[str, Any] = {"version": version, "state": state, "schema_version": schema_version}
        if refusal is None:
            assert events.save_snapshot(self.db, *key, **save).version == version
            return
        with pytest.raises(refusal):
            events.save_snapshot(self.db, *key, **save)

    @rule(
        key=KEYS,
        folds=st.lists(st.sampled_from(FOLDS), max_size=3),
        keep=st.integers(0, 3),
        schema_version=st.none() | st.integers(1, 3),
    )
    def prune_snapshots(
        self, key: Key, folds: list[Fold[Any]], keep: int, schema_version: int | None
    ) -> None:
        self.load(key, folds)
        key = self.key(key)
        deleted = events.prune_snapshots(self.db, *key, keep=keep, schema_version=schema_version)
        assert deleted == self.model.prune(key, keep, schema_version)
        self.check_snapshots(self.db, key, self.model.of(key))

    @rule(key=KEYS, schema_version=st.integers(1, 3), to_version=st.none() | VERSIONS)
    def load_snapshot(self, key: Key, schema_version: int, to_version: int | None) -> None:
        key = self.key(key)
        found = events.load_snapshot(self.db, *key, schema_version=schema_version, to_version=to_version)
        wanted = self.model.of(key).newest_snapshot(schema_version, to_version)
        assert (found.version if found else 0) == wanted

    # --- reading

    @rule(
        key=KEYS,
        after_version=VERSIONS,
        to_version=st.none() | VERSIONS,
        event_types=FILTERS,
        since=st.none() | VERSIONS,
        limit=st.integers(1, 8),
        backward=st.booleans(),
    )
    def read(
        self,
        key: Key,
        after_version: int,
        to_version: int | None,
        event_types: list[str] | None,
        since: int | None,
        limit: int,
        backward: bool,
    ) -> None:
        key = self.key(key)
        written = self.model.of(key).events
        at = self.time_of(written, since)
        found = events.read(
            self.db,
            *key,
            after_version=after_version,
            to_version=to_version,
            event_types=event_types,
            since=at,
            limit=limit,
            backward=backward,
        )
        wanted = chosen(
            written[after_version:to_version],
            event_types=event_types,
            since=at,
            backward=backward,
            limit=limit,
        )
        assert [as_written(event) for event in found] == wanted

    @rule(inside=st.booleans(), event_types=FILTERS, skip=VERSIONS, only=st.none() | st.just("Stream"))
    def read_all(self, inside: bool, event_types: list[str] | None, skip: int, only: str | None) -> None:
        """All there is where nobody else appends; else all up to the watermark, and then no gap."""
        seen = self.model.log() if inside or not self.open else self.committed()
        after = seen[skip - 1].position if 0 < skip <= len(seen) else self.start
        found = [
            as_written(event)
            for event in events.read_all(
                self.db if inside else self.store,
                after_position=after,
                event_types=event_types,
                aggregate_type=only,
            )
        ]
        wanted = [
            event
            for event in chosen(seen, event_types=event_types, since=None)
            if event.position > after and only in (None, event.key[0])
        ]
        assert found == wanted[: len(found)]
        left_out = wanted[len(found) :]
        if self.watermark is None:
            assert left_out == []
        else:
            assert all(event.position > self.watermark for event in left_out)

    def committed(self) -> list[Written]:
        """What is seen from outside the open transaction."""
        outside = self.open[0][2].copy()
        beside = self.model.aggregates.get(self.key(("Stream", "beside")))
        if beside is not None:
            outside.aggregates[self.key(("Stream", "beside"))] = beside
        return outside.log()

    @rule(user_id=st.integers(1, 2), limit=st.integers(1, 5))
    def list_by_user(self, user_id: int, limit: int) -> None:
        found = events.list_by_user(self.db, user_id, limit=limit)
        wanted = [event for event in reversed(self.model.log()) if event.user_id == user_id][:limit]
        # Those of the examples before follow.
        assert [as_written(event) for event in found if event.position > self.start] == wanted

    @staticmethod
    def time_of(written: Sequence[Written], version: int | None) -> datetime | None:
        return None if version is None or not 0 < version <= len(written) else written[version - 1].timestamp

    # --- the end

    def teardown(self) -> None:
        """What is seen in the transaction is what stays after its commit, or what was there before."""
        if not hasattr(self, "model"):
            return
        commits = len(self.model.log()) % 2 == 1
        try:
            self.check(self.db)
        except BaseException:
            commits = False
            raise
        finally:
            while self.open:
                if commits:
                    self.commit()
                else:
                    self.roll_back()
        self.check(self.store)

    def check(self, db: Db) -> None:
        for key, aggregate in self.model.aggregates.items():
            assert [as_written(event) for event in events.read(db, *key)] == aggregate.events
            head = events.find_head(db, *key)
            assert (head.version if head else 0) == events.get_version(db, *key) == aggregate.version
            assert (head is not None and head.is_closed) == aggregate.is_closed
            self.check_snapshots(db, key, aggregate)

    def check_snapshots(self, db: Db, key: Key, aggregate: Aggregate) -> None:
        for schema_version, known in aggregate.snapshots.items():
            versions: list[int] = []
            while snapshot := events.load_snapshot(
                db,
                *key,
                schema_version=schema_version,
                to_version=versions[-1] - 1 if versions else None,
            ):
                versions.append(snapshot.version)
            assert versions == sorted(known, reverse=True)


@pytest.fixture(scope="module")
def log(servers: Servers, _admin: psycopg.Connection, _template: str) -> Iterator[Store]:
    """A store whose database all examples share."""
    name = f"rootstream_model_{os.getpid()}"
    _admin.execute(SQL("CREATE DATABASE {} TEMPLATE {}").format(Identifier(name), Identifier(_template)))
    with Store.open(make_conninfo(servers.database_url, dbname=name), pool_size=3) as opened:
        yield opened
    _admin.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))


def test_the_log_is_what_the_model_says(log: Store) -> None:
    EventLog.store = log
    run_state_machine_as_test(
        EventLog,
        settings=settings(
            max_examples=60,
            stateful_step_count=50,
            deadline=None,  # a commit takes what it takes
            suppress_health_check=[HealthCheck.too_slow],  # the same
        ),
    )
    assert log._pool.in_use() == 0
    # Each happens by the dozen: what never does is tested by nothing here.
    for what in (
        "event",
        "commit",
        "roll back",
        "VersionConflict",
        "Conflict",
        "snapshot saved",
        "snapshot read",
        "repeat",
        "together",
        "refused together",
    ):
        assert EventLog.seen[what], EventLog.seen
