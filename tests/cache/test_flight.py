from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NoReturn

import pytest

from rootstream_store.cache._flight import SharedLoads


def test_fifty_callers_at_once_make_two_loads() -> None:
    shared: SharedLoads[int] = SharedLoads(5)
    first_runs, go_on = threading.Event(), threading.Event()
    loads = []

    def load() -> int:
        loads.append(1)
        first_runs.set()
        assert go_on.wait(5)
        return len(loads)

    results: list[int] = []
    threads = [threading.Thread(target=lambda: results.append(shared.run(b"k", load))) for _ in range(50)]
    threads[0].start()
    assert first_runs.wait(5)
    for thread in threads[1:]:
        thread.start()
    _until(lambda: _waiting(shared) == 1)
    go_on.set()
    for thread in threads:
        thread.join(5)
    assert len(loads) == 2
    assert sorted(results) == [1] + [2] * 49
    assert not shared._heads, "nothing is kept of a key that nobody loads"


def test_nobody_gets_what_was_read_before_asking() -> None:
    shared: SharedLoads[int] = SharedLoads(5)
    truth = [1]
    reading, go_on = threading.Event(), threading.Event()

    def slow() -> int:
        value = truth[0]
        reading.set()
        assert go_on.wait(5)
        return value

    early = threading.Thread(target=lambda: shared.run(b"k", slow))
    early.start()
    assert reading.wait(5)
    truth[0] = 2
    results: list[int] = []
    late = threading.Thread(target=lambda: results.append(shared.run(b"k", lambda: truth[0])))
    late.start()
    _until(lambda: _waiting(shared) == 1)
    go_on.set()
    late.join(5)
    early.join(5)
    assert results == [2]


def test_keys_do_not_wait_for_each_other() -> None:
    shared: SharedLoads[int] = SharedLoads(5)
    assert shared.run(b"a", lambda: shared.run(b"b", lambda: 3)) == 3


def test_a_load_that_hangs_holds_others_up_for_no_longer_than_their_patience() -> None:
    shared: SharedLoads[int] = SharedLoads(0.05)
    runs, go_on = threading.Event(), threading.Event()

    def hang() -> int:
        runs.set()
        assert go_on.wait(5)
        return 1

    first = threading.Thread(target=lambda: shared.run(b"k", hang))
    first.start()
    assert runs.wait(5)
    started = time.monotonic()
    assert shared.run(b"k", lambda: 2) == 2
    assert time.monotonic() - started < 1
    go_on.set()
    first.join(5)
    assert not shared._heads


def test_an_error_belongs_to_the_thread_that_made_it() -> None:
    shared: SharedLoads[int] = SharedLoads(5)
    runs, go_on = threading.Event(), threading.Event()

    def first_load() -> int:
        runs.set()
        assert go_on.wait(5)
        return 0

    def failing() -> NoReturn:
        raise ValueError(threading.current_thread().name)

    def run_failing() -> None:
        with pytest.raises(ValueError, match=threading.current_thread().name):
            shared.run(b"k", failing)
        raised.append(1)

    raised: list[int] = []
    first = threading.Thread(target=lambda: shared.run(b"k", first_load))
    first.start()
    assert runs.wait(5)
    threads = [threading.Thread(target=run_failing, name=f"loader-{n}-") for n in range(5)]
    for thread in threads:
        thread.start()
    _until(lambda: _waiting(shared) == 1)
    go_on.set()
    for thread in [first, *threads]:
        thread.join(5)
    assert len(raised) == 5
    assert not shared._heads


def _waiting(shared: SharedLoads[int]) -> int:
    """Flights that wait for the running one."""
    head = shared._heads.get(b"k")
    return 1 if head is not None and head.next is not None else 0


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)
