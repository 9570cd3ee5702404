"""Flushing: crashes at every step, repeats, many streams, and the thread that does it all the time."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import psycopg
import pytest

from rootstream_store.errors import Conflict, InvalidInput
from rootstream_store.repositories import _viewer_flush, stream_sessions, streams, viewers
from rootstream_store.store import Store

from ..cache.conftest import until
from ..factories import make_stream, make_stream_session, make_user
from .conftest import totals
from .flush_and_die import dying


def die(store: Store, stream_id: int, what: str, step: int, when: str) -> bool:
    """Whether a process was killed at that step of the flush, or of the stop."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.viewers.flush_and_die",
            store.settings.database_url,
            str(store.settings.redis_url),
            str(stream_id),
            what,
            str(step),
            when,
        ],
        cwd=Path(__file__).parents[2],
        check=False,
        timeout=60,
    )
    assert done.returncode in (0, -signal.SIGKILL)
    return done.returncode != 0


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_flush_that_is_killed_at_any_step_loses_and_doubles_nothing(
    store: Store, live: int, when: str
) -> None:
    steps = visits = 0
    while True:
        for number in range(3):
            viewers.join(store, live, f"{steps} {number}")
            visits += 1
        if not die(store, live, "flush", steps, when):
            break
        steps += 1
        assert totals(store, live)[2] in (visits, visits - 3)
        viewers.flush(store)
        assert totals(store, live) == (visits, visits, visits, visits)
    # Listing, reading, writing, ranking.
    assert steps == 4
    assert totals(store, live) == (visits, visits, visits, visits)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", [0, 1, 2])
def test_a_stop_that_is_killed_at_any_step_loses_and_doubles_nothing(
    store: Store, live: int, when: str, step: int
) -> None:
    session = stream_sessions.get_current(store, live)
    for number in range(3):
        viewers.join(store, live, number)
    assert die(store, live, "stop", step, when)
    if streams.get(store, live).is_live:
        viewers.flush(store)
        assert totals(store, live)[1:] == (3, 3, 3)
        # The dead one's marker ends, and everybody is counted again.
        until(lambda: viewers.join(store, live, "late").is_counted, "the marker to expire", 35)
        assert streams.stop(store, live).total_viewers == 4
    else:
        assert totals(store, live, session.id) == (0, 3, 3, 3)
        # Nobody told Redis; whoever asks for the next session is not answered from the last one.
        streams.start(store, live)
        viewers.flush(store)
        assert totals(store, live) == (0, 0, 0, 0)
        assert viewers.join(store, live, "late").current == 1
        assert totals(store, live, session.id)[1:] == (3, 3, 3)


def test_half_of_all_flushes_crash_while_viewers_come(store: Store, live: int) -> None:
    class Crash(BaseException):
        pass

    rng = random.Random(7)
    visits = 0
    over = threading.Event()

    def come() -> None:
        nonlocal visits
        while not over.is_set():
            viewers.join(store, live, visits)
            visits += 1

    def crashing(number: int, when: str) -> None:
        steps = _viewer_flush.flush("x")
        answer: Any = None
        for at in range(10):
            try:
                step = steps.send(answer)
            except StopIteration:
                return
            if at == number and when == "before":
                raise Crash
            answer = step(store)
            if at == number:
                raise Crash

    coming = threading.Thread(target=come)
    coming.start()
    crashed = 0
    try:
        for _ in range(300):
            try:
                crashing(rng.randrange(8), rng.choice(["before", "after"]))
            except Crash:
                crashed += 1
    finally:
        over.set()
        coming.join()
    assert 100 < crashed < 200
    viewers.flush(store)
    assert totals(store, live)[:3] == (visits, visits, visits)


def test_a_flush_made_twice_and_one_made_of_old_figures_add_nothing(store: Store, live: int) -> None:
    viewers.join(store, live, "ann")
    steps = _viewer_flush.flush("x")
    answer = steps.send(None)(store)  # listing
    answer = steps.send(answer)(store)  # reading
    old = steps.send(answer)
    old(store)
    viewers.join(store, live, "bob")
    viewers.flush(store)
    for _ in range(3):
        old(store)
    assert totals(store, live)[1:3] == (2, 2)
    viewers.flush(store)
    assert totals(store, live) == (2, 2, 2, 2)


def test_two_flushes_of_the_same_at_once_add_it_once(store: Store, live: int, database_url: str) -> None:
    """The second one waits for the row, and decides by what the first one made of it."""
    viewers.join(store, live, "ann")
    steps = _viewer_flush.flush("x")
    answer: Any = None
    for _ in range(2):
        answer = steps.send(answer)(store)
    write = steps.send(answer)
    with psycopg.connect(database_url, autocommit=True) as watching:
        second = threading.Thread(target=lambda: write(store))
        with store.transaction() as tx:
            write(tx)
            second.start()
            waiting = (
                "SELECT count(*) FROM pg_stat_activity "
                "WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            until(lambda: watching.execute(waiting).fetchone() == (1,), "the second flush to wait")
        second.join()
    assert totals(store, live) == (1, 1, 1, 1)


def test_figures_of_a_session_that_has_ended_never_change(store: Store, live: int) -> None:
    viewers.join(store, live, "ann")
    steps = _viewer_flush.flush("x")
    answer: Any = None
    for _ in range(2):
        answer = steps.send(answer)(store)
    write = steps.send(answer)
    ended = streams.stop(store, live)
    write(store)
    assert stream_sessions.get(store, live, ended.id) == ended
    assert streams.get(store, live).viewer_count == 0
    streams.start(store, live)
    write(store)
    assert totals(store, live) == (0, 0, 0, 0)


def test_thousands_of_streams_are_flushed(store: Store) -> None:
    owner = make_user(store)
    with store.transaction() as tx:
        on_air = [make_stream_session(tx, make_stream(tx, owner.id).id).stream_id for _ in range(2100)]
    for stream_id in on_air:
        viewers.set(store, stream_id, stream_id % 50)
    report = viewers.flush(store)
    assert (report.streams, report.flushed, report.is_complete) == (2100, 2100, True)
    for stream_id in random.Random(1).sample(on_air, 50):
        assert streams.get(store, stream_id).viewer_count == stream_id % 50
    assert viewers.flush(store).flushed == 0


def test_a_flusher_flushes_and_once_more_at_its_end(store: Store, live: int) -> None:
    viewers.join(store, live, "ann")
    with viewers.Flusher(store, every=0.02) as flusher:
        until(lambda: streams.get(store, live).viewer_count == 1, "a flush")
        with pytest.raises(Conflict, match="runs already"):
            flusher.start()
    viewers.join(store, live, "bob")
    with viewers.Flusher(store, every=60) as last:
        pass
    assert last.last_report is not None
    assert totals(store, live) == (2, 2, 2, 2)
    flusher.stop()
    with flusher:  # it may run again
        viewers.leave(store, live, "bob")
    assert streams.get(store, live).viewer_count == 1


def test_a_flusher_of_a_closed_store_ends(database_url: str, redis_url: str) -> None:
    store = Store.open(database_url, redis_url)
    flusher = viewers.Flusher(store, every=0.01).start()
    store.close()
    flusher.stop()


@pytest.mark.parametrize("every", [0, -1, 61, float("nan"), "5", None, True])
def test_what_is_no_pause_between_flushes_is_refused(store: Store, every: object) -> None:
    with pytest.raises(InvalidInput, match="every"):
        viewers.Flusher(store, every=every)  # type: ignore[arg-type]  # that is the test


def test_dying_hands_steps_through(store: Store, live: int) -> None:
    """Else the tests above would test nothing."""
    viewers.join(store, live, "ann")
    assert store.flow(dying(_viewer_flush.flush("x"), 99, "before")).flushed == 1
