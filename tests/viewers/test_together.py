"""Viewers of many threads and processes at the same time, some of which are killed."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rootstream_store.errors import Conflict
from rootstream_store.repositories import streams, viewers
from rootstream_store.store import Store

from ..cache.conftest import until
from .conftest import totals
from .crowd import STAYING

THREADS = 8


def at_once(work: Callable[[int], None]) -> None:
    """`work` in THREADS threads, each with its number; the first error is raised."""
    barrier = threading.Barrier(THREADS)

    def run(number: int) -> None:
        barrier.wait(10)
        work(number)

    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(run, range(THREADS)))


def test_joins_and_leaves_of_eight_threads_add_up(store: Store, live: int) -> None:
    peaks, visits = [0] * THREADS, [0] * THREADS

    def watch(number: int) -> None:
        rng = random.Random(number)
        present: set[str] = set()
        for _ in range(400):
            name = f"{number} {rng.randrange(40)}"
            if rng.random() < 0.6:
                answer = viewers.join(store, live, name)
                assert answer.is_change == (name not in present)
                visits[number] += answer.is_change
                present.add(name)
            else:
                answer = viewers.leave(store, live, name)
                assert answer.is_change == (name in present)
                present.discard(name)
            assert answer.is_counted
            peaks[number] = max(peaks[number], answer.current)
        staying.append(len(present))

    staying: list[int] = []
    with viewers.Flusher(store, every=0.01), viewers.Flusher(store, every=0.013):
        at_once(watch)
    figures = viewers.get(store, live)
    assert (figures.current, figures.peak) == (sum(staying), max(peaks))
    assert totals(store, live)[:3] == (sum(staying), max(peaks), sum(visits))


def test_one_viewer_in_eight_threads_is_one(store: Store, live: int) -> None:
    new: list[bool] = []

    def watch(_: int) -> None:
        new.extend(viewers.join(store, live, viewer).is_change for viewer in range(200))

    at_once(watch)
    assert sum(new) == 200
    viewers.flush(store)
    assert totals(store, live)[:3] == (200, 200, 200)
    gone: list[bool] = []

    def leave(_: int) -> None:
        gone.extend(viewers.leave(store, live, viewer).is_change for viewer in range(200))

    at_once(leave)
    assert sum(gone) == 200
    assert viewers.get(store, live).current == 0


@pytest.mark.parametrize("how", ["alone", "in a transaction"])
def test_every_join_that_was_counted_is_in_the_figures_of_its_session(
    store: Store, live: int, how: str
) -> None:
    """Threads join all the time while the stream is stopped and started again."""
    counted: list[int] = []
    ended: list[int] = []
    over = threading.Event()

    def watch(number: int) -> None:
        if number == 0:
            for _ in range(12):
                before = len(counted)
                until(lambda before=before: len(counted) > before + 50, "joins")  # type: ignore[misc]  # mypy and defaults
                if how == "alone":
                    session = streams.stop(store, live)
                else:
                    with store.transaction() as tx:
                        session = streams.stop(tx, live)
                ended.append(session.total_viewers)
                streams.start(store, live)
            over.set()
            return
        turn = 0
        while not over.is_set():
            turn += 1
            try:
                answer = viewers.join(store, live, f"{number} {turn}")
            except Conflict:
                continue
            if answer.is_counted:
                assert answer.is_change
                counted.append(turn)

    with viewers.Flusher(store, every=0.02):
        at_once(watch)
    assert sum(ended) + totals(store, live)[2] == len(counted)


def test_viewers_of_killed_processes_expire_and_nobody_else(store: Store, live: int) -> None:
    names = ["one", "two", "three"]
    urls = [store.settings.database_url, str(store.settings.redis_url)]
    crowds = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.viewers.crowd", *urls, str(live), name, "1.5"],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        for name in names
    ]
    try:
        for crowd in crowds:
            assert crowd.stdout is not None
            assert crowd.stdout.readline() == b"there\n"
        viewers.join(store, live, "staying")
        until(lambda: viewers.get(store, live).current >= 3 * STAYING + 1, "all crowds")
        for crowd in crowds[:2]:
            crowd.kill()
        # Of each killed one at most one who was just passing is left, for 45 s.
        until(lambda: viewers.get(store, live).current <= STAYING + 4, "the crowds of the killed to go", 20)
        assert viewers.get(store, live).current >= STAYING + 1
        # They have been there in any case; a heartbeat is no visit.
        assert viewers.get(store, live).peak >= 3 * STAYING + 1
    finally:
        for crowd in crowds:
            crowd.kill()
            crowd.wait()
            assert crowd.stdout is not None
            crowd.stdout.close()
