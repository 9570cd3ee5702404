"""Any sequence of calls, losses and flushes against a model of a few lines."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from rootstream_store.cache import keys
from rootstream_store.errors import Conflict
from rootstream_store.flow import Flow, rows
from rootstream_store.repositories import _viewer_flush, streams, viewers
from rootstream_store.repositories._viewer_scripts import Counted, ask_counted
from rootstream_store.store import Store

from ..factories import make_stream
from .conftest import totals

VIEWERS = st.sampled_from("abcdef")
SOURCES = st.sampled_from(["encoder", "edge"])
IMAGINED_AGO = 1
"""Milliseconds of the server's clock: long ago."""


class Model(RuleBasedStateMachine):
    """What the viewers of one stream should be."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self.store = store
        self.stream_id = make_stream(store).id
        self.session_id: int | None = None
        self.reset()
        self.flushed = [0, 0, 0]  # peak, total, different of the session in PostgreSQL
        self.ended: dict[int, list[int]] = {}
        self.old: list[Counted] = []

    def reset(self) -> None:
        self.present: set[str] = set()
        self.sources: dict[str, int] = {}
        self.seen: set[str] = set()
        self.joined = self.counted = self.peak = self.unique_before = 0
        self.is_behind = False

    @property
    def current(self) -> int:
        return len(self.present) + sum(self.sources.values())

    @property
    def unique(self) -> int:
        return max(self.unique_before, len(self.seen))

    def came(self, viewer: str) -> None:
        self.present.add(viewer)
        self.seen.add(viewer)
        self.peak = max(self.peak, self.current)

    @rule(viewer=VIEWERS)
    def join(self, viewer: str) -> None:
        if self.session_id is None:
            with pytest.raises(Conflict):
                viewers.join(self.store, self.stream_id, viewer)
            return
        is_new = viewer not in self.present
        self.joined += is_new
        self.came(viewer)
        answer = viewers.join(self.store, self.stream_id, viewer)
        assert (answer.current, answer.is_change, answer.is_counted) == (self.current, is_new, True)

    @rule(viewer=VIEWERS)
    def heartbeat(self, viewer: str) -> None:
        if self.session_id is None:
            return
        is_new = viewer not in self.present
        self.came(viewer)
        answer = viewers.heartbeat(self.store, self.stream_id, viewer)
        assert (answer.current, answer.is_change) == (self.current, is_new)

    @rule(viewer=VIEWERS)
    def leave(self, viewer: str) -> None:
        was_there = viewer in self.present
        self.present.discard(viewer)
        answer = viewers.leave(self.store, self.stream_id, viewer)
        assert (answer.current, answer.is_change) == (self.current, was_there)

    @rule(source=SOURCES, count=st.integers(0, 5))
    def report(self, source: str, count: int) -> None:
        if self.session_id is None:
            return
        is_change = self.sources.get(source, 0) != count
        self.sources[source] = count
        self.peak = max(self.peak, self.current)
        answer = viewers.set(self.store, self.stream_id, count, source=source)
        assert (answer.current, answer.is_change) == (self.current, is_change)

    @rule(viewer=VIEWERS, source=SOURCES)
    def time_passes(self, viewer: str, source: str) -> None:
        """The viewer has said nothing and the source neither, for as long as it takes."""
        redis: Any = self.store.redis
        _, counter, seen, _, _, sources = keys.viewer_keys(self.stream_id)
        if redis.exists(counter):
            redis.zadd(seen, {viewer: IMAGINED_AGO}, xx=True)
            if (told := redis.hget(sources, source)) is not None:
                redis.hset(sources, source, told.split(b":")[0] + b":%d" % IMAGINED_AGO)
            redis.hset(counter, "wake", IMAGINED_AGO)
        self.present.discard(viewer)
        self.sources.pop(source, None)

    def expect_flush(self) -> None:
        peak, total, different = self.flushed
        total = max(total + self.joined - self.counted, peak, self.peak)
        self.flushed = [max(peak, self.peak), total, max(different, min(self.unique, total))]
        self.counted = self.joined

    @rule()
    def flush(self) -> None:
        report = viewers.flush(self.store)
        assert report.is_complete
        if self.session_id is not None and self.store.redis.exists(keys.viewer_keys(self.stream_id)[1]):
            self.expect_flush()
            self.peak = max(self.peak, self.flushed[0])
            self.unique_before = max(self.unique_before, self.flushed[2])
            self.is_behind = False
            assert totals(self.store, self.stream_id) == (self.current, *self.flushed)
        again = viewers.flush(self.store)
        assert again.flushed == 0

    @precondition(lambda self: self.session_id is not None)
    @rule()
    def begin_a_flush_that_takes_long(self) -> None:
        assert self.session_id is not None
        counted = self.store.ask(ask_counted(self.stream_id, Counted(self.session_id, 0, 0, 0, 0, 0)), _none)
        if counted is not None:
            self.old.append(counted)

    @precondition(lambda self: self.old)
    @rule(which=st.integers(0, 100))
    def such_a_flush_comes_at_last(self, which: int) -> None:
        """Whatever has been flushed meanwhile, it never takes back, nor adds twice."""
        counted = self.old[which % len(self.old)]
        before = {} if self.session_id is None else {self.session_id: self.read(self.session_id)}
        self.store.flow(_apply(self.stream_id, counted))
        for session_id, figures in (before | self.ended).items():
            if session_id == counted.session_id and session_id not in self.ended:
                continue
            assert self.read(session_id) == figures
        if self.session_id is None or counted.session_id != self.session_id:
            return
        # Bring the model's PostgreSQL to what a flush of the counter as it was then makes of it.
        if self.epoch_in_postgresql() == counted.epoch and counted.epoch == self.epoch_in_redis():
            new = max(self.counted, counted.joined)
            total = max(self.flushed[1] + new - self.counted, self.flushed[0], counted.peak)
            peak, different = max(self.flushed[0], counted.peak), min(counted.unique, total)
            self.flushed = [peak, total, max(self.flushed[2], different)]
            self.counted = new
            assert self.read(self.session_id) == self.flushed
        else:
            # A counter of today may have begun from what PostgreSQL had before: the next flush mends that.
            self.flushed = self.read(self.session_id)
            self.is_behind = True

    def epoch_in_postgresql(self) -> int:
        page = self.store.all(_viewer_flush._LIST_ON_AIR, after_id=self.stream_id - 1, limit=1)
        return page[0].viewers_epoch

    def epoch_in_redis(self) -> int:
        redis: Any = self.store.redis
        return int(redis.hget(keys.viewer_keys(self.stream_id)[1], "epoch") or 0)

    def read(self, session_id: int) -> list[int]:
        return list(totals(self.store, self.stream_id, session_id)[1:])

    @precondition(lambda self: self.session_id is None)
    @rule()
    def start(self) -> None:
        self.reset()
        self.flushed = [0, 0, 0]
        self.session_id = streams.start(self.store, self.stream_id).id

    @precondition(lambda self: self.session_id is not None)
    @rule()
    def stop(self) -> None:
        has_counter = self.store.redis.exists(keys.viewer_keys(self.stream_id)[1])
        session = streams.stop(self.store, self.stream_id)
        if has_counter:
            self.expect_flush()
        assert [session.peak_viewers, session.total_viewers, session.unique_viewers] == self.flushed
        self.ended[session.id] = self.flushed
        self.session_id = None
        self.reset()

    @rule()
    def redis_loses_everything(self) -> None:
        self.store.redis.flushdb()
        behind = self.is_behind
        self.reset()
        self.is_behind = behind
        # What was flushed is what the next counter begins from.
        self.peak, self.unique_before = self.flushed[0], self.flushed[2]

    @invariant()
    def figures_are_those_of_the_model(self) -> None:
        figures = viewers.get(self.store, self.stream_id)
        if self.session_id is None:
            assert (figures.current, figures.peak, figures.unique) == (0, 0, 0)
        elif figures.is_from_redis and self.is_behind:
            assert figures.current == self.current
        elif figures.is_from_redis:
            assert (figures.current, figures.peak, figures.unique) == (self.current, self.peak, self.unique)
            assert figures.peak >= self.flushed[0]
        else:
            assert [figures.peak, figures.unique] == [self.flushed[0], self.flushed[2]]


def _none() -> Flow[None]:
    return
    yield


def _apply(stream_id: int, counted: Counted) -> Flow[list[int]]:
    return (
        yield from rows(
            _viewer_flush._FLUSH,
            stream_ids=[stream_id],
            session_ids=[counted.session_id],
            epochs=[counted.epoch],
            joined=[counted.joined],
            peaks=[counted.peak],
            uniques=[counted.unique],
            currents=[counted.current],
        )
    )


def test_any_sequence_of_calls_and_losses_is_that_of_the_model(store: Store) -> None:
    run_state_machine_as_test(
        lambda: Model(store),  # type: ignore[arg-type]  # it only calls it
        settings=settings(
            max_examples=60,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
