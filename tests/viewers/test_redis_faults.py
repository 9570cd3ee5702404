"""Redis frozen, killed and started again empty while viewers come and go: no wrong answer, none that takes
long."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from rootstream_store import _flushes, metrics
from rootstream_store._flushes import FlushHealth
from rootstream_store.errors import Conflict
from rootstream_store.records import ViewerCount
from rootstream_store.repositories import streams, viewers
from rootstream_store.store import Store

from ..cache.conftest import OwnValkey, until
from ..factories import make_stream_session
from .conftest import totals

OpenStore = Callable[..., Store]
LONGEST = 0.6
"""Seconds that Redis may hold up a call."""


@pytest.fixture
def faulty(open_store: OpenStore, own_valkey: OwnValkey) -> Store:
    """A store on a Redis that the test may break."""
    return open_store(redis_url=own_valkey.url, redis_retry_after=0.2)


def timed(call: Callable[[], ViewerCount]) -> ViewerCount:
    start = time.monotonic()
    answer = call()
    assert time.monotonic() - start < LONGEST
    return answer


@pytest.mark.parametrize("fault", ["freeze", "kill"])
def test_while_redis_is_away_nobody_is_counted_and_nobody_waits(
    faulty: Store, own_valkey: OwnValkey, fault: str
) -> None:
    live = make_stream_session(faulty).stream_id
    viewers.join(faulty, live, "ann")
    viewers.flush(faulty)
    viewers.join(faulty, live, "bob")
    getattr(own_valkey, fault)()
    calls: list[Callable[[], ViewerCount]] = [
        lambda: viewers.join(faulty, live, "carol"),
        lambda: viewers.heartbeat(faulty, live, "ann"),
        lambda: viewers.set(faulty, live, 5),
        lambda: viewers.leave(faulty, live, "ann"),
    ]
    for call in calls:
        assert timed(call) == ViewerCount(current=1, is_change=False, is_counted=False)
    start = time.monotonic()
    figures = viewers.get(faulty, live)
    assert (figures.current, figures.peak, figures.is_from_redis) == (1, 1, False)
    assert [found.viewers for found in viewers.top(faulty)] == [1]
    assert not viewers.flush(faulty).is_complete
    assert time.monotonic() - start < 3 * LONGEST
    if fault == "freeze":
        own_valkey.thaw()
        until(lambda: viewers.join(faulty, live, "carol").is_counted, "Redis to be asked again")
        # The frozen one may have done what nobody waited for any more: told twice it is once.
        viewers.heartbeat(faulty, live, "ann")
        viewers.set(faulty, live, 0)
        assert viewers.get(faulty, live).current == 3
        viewers.flush(faulty)
        now, _, total, _ = totals(faulty, live)
        # ann may have left by the call that nobody waited for, and has come back by a heartbeat.
        assert (now, total) in ((3, 3), (3, 4), (3, 8))
    else:
        own_valkey.start()
        until(lambda: viewers.heartbeat(faulty, live, "ann").is_counted, "Redis to be asked again")
        viewers.flush(faulty)
        # bob was counted after the last flush, and is lost; ann is no visit more.
        assert totals(faulty, live)[:3] == (1, 1, 1)


def test_a_stop_while_redis_is_away_has_what_was_flushed(faulty: Store, own_valkey: OwnValkey) -> None:
    live = make_stream_session(faulty).stream_id
    viewers.join(faulty, live, "ann")
    viewers.flush(faulty)
    viewers.join(faulty, live, "bob")
    own_valkey.freeze()
    ended = streams.stop(faulty, live)
    assert (ended.peak_viewers, ended.total_viewers) == (1, 1)
    with pytest.raises(Conflict):
        viewers.join(faulty, live, "carol")
    own_valkey.thaw()

    def is_known() -> bool:
        with pytest.raises(Conflict):
            viewers.join(faulty, live, "carol")
        return faulty._cache.counters.failures > 0 and not faulty.health().redis.pending_invalidations

    until(is_known, "the stop to be known to Redis")
    assert viewers.get(faulty, live).current == 0
    second = streams.start(faulty, live)
    viewers.flush(faulty)
    assert totals(faulty, live, second.id) == (0, 0, 0, 0)


def test_counts_add_up_to_the_last_flush_through_kills_under_load(
    faulty: Store, own_valkey: OwnValkey
) -> None:
    live = make_stream_session(faulty).stream_id
    over = threading.Event()
    counted, slowest = [0] * 6, [0.0] * 6
    peaks: list[int] = []

    def watch(number: int) -> None:
        rng = random.Random(number)
        turn = 0
        while not over.is_set():
            turn += 1
            name = f"{number} {turn}"
            call = rng.choice(["join", "join", "heartbeat", "leave", "get"])
            start = time.monotonic()
            if call == "get":
                figures = viewers.get(faulty, live)
                assert figures.current >= 0
                assert figures.session_id is not None
            elif call == "join":
                answer = viewers.join(faulty, live, name)
                counted[number] += answer.is_counted
                assert answer.current >= answer.is_counted
            elif call == "heartbeat":
                viewers.heartbeat(faulty, live, f"{number} staying")
            else:
                viewers.leave(faulty, live, f"{number} {turn - 1}")
            slowest[number] = max(slowest[number], time.monotonic() - start)

    def fail() -> None:
        kept = (0, 0, 0)
        try:
            for _ in range(3):
                before = sum(counted)
                until(lambda before=before: sum(counted) > before + 200, "joins", 20)  # type: ignore[misc]  # mypy and defaults
                report = viewers.flush(faulty)
                assert report.is_complete
                peak, total, unique = totals(faulty, live)[1:]
                assert peak >= kept[0]
                assert total > kept[1]
                assert unique >= kept[2]
                kept = peak, total, unique
                own_valkey.kill()
                assert not viewers.flush(faulty).is_complete
                # Nothing that was flushed is lost.
                assert totals(faulty, live)[1:] == kept
                own_valkey.start()
                until(lambda: viewers.heartbeat(faulty, live, "main").is_counted, "Redis to be asked again")
                peaks.append(viewers.get(faulty, live).peak)
                assert peaks[-1] >= kept[0], "the peak fell"
        finally:
            over.set()

    with ThreadPoolExecutor(7) as threads:
        jobs = [threads.submit(watch, number) for number in range(6)]
        failing = threads.submit(fail)
        failing.result()
        for job in jobs:
            job.result()
    viewers.flush(faulty)
    assert totals(faulty, live)[2] <= sum(counted) + 7  # heartbeats of seven who never joined may be a peak
    assert max(slowest) < LONGEST


def test_health_and_metrics_tell_of_flushes(
    faulty: Store, own_valkey: OwnValkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = make_stream_session(faulty).stream_id
    assert faulty.health().flushes == FlushHealth()
    assert "rootstream_viewer_flush_age_seconds" not in metrics.generate(faulty).decode()
    with viewers.Flusher(faulty, every=0.05):
        viewers.join(faulty, live, "ann")
        until(lambda: faulty.health().flushes.done > 1, "flushes")
        found = faulty.health().flushes
        assert found.age_seconds is not None
        assert found.age_seconds < LONGEST
        assert (found.failed, found.is_late) == (0, False)
        own_valkey.kill()
        until(lambda: faulty.health().flushes.failed > 1, "failures")
        monkeypatch.setattr(_flushes, "_LATE", 0.1)
        until(lambda: any("none were flushed for" in reason for reason in faulty.health().reasons), "late")
        assert faulty.health().flushes.is_late
        text = metrics.generate(faulty).decode()
        assert "\nrootstream_viewer_flush_age_seconds " in text
        assert "\nrootstream_viewer_flushes_failed_total " in text
        own_valkey.start()
        done = faulty.health().flushes.done
        until(lambda: faulty.health().flushes.done > done, "it to be made up for")
    assert faulty.health().flushes.age_seconds is None
