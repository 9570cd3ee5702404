from __future__ import annotations

import random
import threading
import time
from queue import Empty, Full

import pytest

from rootstream_store.cache._stack import Stack


def test_last_in_first_out_and_no_more_than_it_may_hold() -> None:
    stack = Stack(2)
    stack.put_nowait(1)
    stack.put_nowait(2)
    with pytest.raises(Full):
        stack.put_nowait(3)
    assert stack.qsize() == 2
    assert [stack.get_nowait(), stack.get()] == [2, 1]
    with pytest.raises(Empty):
        stack.get_nowait()
    with pytest.raises(Empty):
        stack.get(block=False)


def test_a_wait_ends_with_the_time_or_with_an_item() -> None:
    stack = Stack(2)
    started = time.monotonic()
    with pytest.raises(Empty):
        stack.get(timeout=0.05)
    assert 0.05 <= time.monotonic() - started < 1
    threading.Timer(0.05, stack.put_nowait, (7,)).start()
    assert stack.get(timeout=5) == 7
    threading.Timer(0.05, stack.put_nowait, (8,)).start()
    assert stack.get() == 8


def test_many_threads_share_few_items_and_nobody_waits_beside_one() -> None:
    stack = Stack(3)
    for item in range(3):
        stack.put_nowait(item)
    held: list[int] = []
    taken = [0] * 12
    errors: list[BaseException] = []
    stop = time.monotonic() + 1

    def work(number: int) -> None:
        chance = random.Random(number)
        try:
            while time.monotonic() < stop:
                # Some give up early: an item that came for them is for another one then.
                try:
                    item = stack.get(timeout=chance.choice([0.0001, 5.0]))
                except Empty:
                    continue
                held.append(item)
                assert held.count(item) == 1
                time.sleep(chance.random() * 0.0005)
                held.remove(item)
                stack.put_nowait(item)
                taken[number] += 1
        except BaseException as error:  # noqa: BLE001  # a thread's failure must fail the test, not vanish
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert time.monotonic() < stop + 3, "somebody waited although there was one"
    assert errors == []
    assert sorted(stack.queue) == [0, 1, 2]
    assert min(taken) > 0
