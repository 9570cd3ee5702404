from __future__ import annotations

import logging
import math
import threading
import time
from typing import NoReturn

import pytest
import redis

from rootstream_store.cache._limits import LIMITS, left
from rootstream_store.cache.breaker import UNREACHED, Breaker

URL = "redis://user:s3cret@host:6379/0"


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(1.0, URL, clock)


def state(breaker: Breaker) -> str:
    """A call, so that mypy does not take the state for unchanged from one assertion to the next."""
    return breaker.state


def fail() -> NoReturn:
    raise redis.ConnectionError("no route to s3cret")


def test_after_a_failure_nothing_is_tried_until_the_time_has_passed(breaker: Breaker, clock: Clock) -> None:
    assert breaker.attempt(fail) is UNREACHED
    assert state(breaker) == "open"
    clock.now += 0.99
    assert breaker.attempt(lambda: "reply") is UNREACHED
    clock.now += 0.02
    assert breaker.attempt(lambda: "reply") == "reply"
    assert state(breaker) == "closed"
    assert breaker.counters.failures == breaker.counters.opened == breaker.counters.skipped == 1


def test_a_failed_probe_opens_it_again_for_as_long(breaker: Breaker, clock: Clock) -> None:
    breaker.attempt(fail)
    clock.now += 1
    breaker.attempt(fail)
    clock.now += 0.9
    assert breaker.attempt(lambda: 1) is UNREACHED
    clock.now += 0.1
    assert breaker.attempt(lambda: 1) == 1
    assert breaker.counters.opened == 1, "a failed probe is the same outage"


def test_one_that_insists_is_the_next_probe_at_once(breaker: Breaker) -> None:
    breaker.attempt(fail)
    assert breaker.attempt(fail, insist=True) is UNREACHED
    assert state(breaker) == "open"
    assert breaker.counters.opened == 1, "the same outage"
    assert breaker.attempt(lambda: "reply", insist=True) == "reply"
    assert state(breaker) == "closed"


def test_one_insists_at_a_time(breaker: Breaker) -> None:
    breaker.attempt(fail)
    within: list[object] = []
    breaker.attempt(lambda: within.append(breaker.attempt(fail, insist=True)), insist=True)
    assert within == [UNREACHED]
    assert breaker.counters.failures == 1, "the second was not made"


def test_one_of_many_threads_probes(breaker: Breaker, clock: Clock) -> None:
    breaker.attempt(fail)
    clock.now += 1
    probing = threading.Event()
    go_on = threading.Event()
    probes = []

    def probe() -> str:
        probes.append(threading.current_thread())
        probing.set()
        assert go_on.wait(5)
        return "reply"

    results: list[object] = []
    first = threading.Thread(target=lambda: results.append(breaker.attempt(probe)))
    first.start()
    assert probing.wait(5)
    assert state(breaker) == "half-open"
    others = [threading.Thread(target=lambda: results.append(breaker.attempt(probe))) for _ in range(20)]
    for thread in others:
        thread.start()
    for thread in others:
        thread.join(5)
    assert results == [UNREACHED] * 20
    go_on.set()
    first.join(5)
    assert len(probes) == 1
    assert results[-1] == "reply"
    assert state(breaker) == "closed"


def test_an_interrupted_probe_leaves_the_next_one_to_others(breaker: Breaker, clock: Clock) -> None:
    breaker.attempt(fail)
    clock.now += 1

    def interrupted() -> NoReturn:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        breaker.attempt(interrupted)
    assert state(breaker) == "open"
    assert breaker.attempt(lambda: 1) == 1


def test_a_probe_that_nobody_ended_does_not_keep_redis_out_for_ever(breaker: Breaker, clock: Clock) -> None:
    """As an exception leaves it that is thrown into a thread just before it begins its attempt."""
    breaker.attempt(fail)
    clock.now += 1
    permit = breaker.enter()
    assert permit is not None
    assert permit.probe
    clock.now += 9
    assert breaker.attempt(lambda: "reply", insist=True) is UNREACHED
    clock.now += 1
    assert breaker.attempt(lambda: "reply") == "reply"
    assert state(breaker) == "closed"


def test_an_answer_from_before_the_failure_does_not_close_it(breaker: Breaker) -> None:
    early = breaker.enter()
    assert early is not None
    breaker.attempt(fail)
    early.succeeded()
    assert state(breaker) == "open"


def test_an_error_reply_does_not_open_it(breaker: Breaker) -> None:
    def refuse() -> NoReturn:
        raise redis.exceptions.OutOfMemoryError("OOM command not allowed when used memory > 'maxmemory'")

    assert breaker.attempt(refuse) is UNREACHED
    assert state(breaker) == "closed"
    assert breaker.counters.refusals == 1


def test_logs_once_for_an_outage_and_once_for_its_end_without_the_password(
    breaker: Breaker, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "rootstream_store.cache"):
        for _ in range(10):
            breaker.attempt(fail)
            clock.now += 1
        breaker.attempt(lambda: 1)
        breaker.attempt(lambda: 1)
    assert len(caplog.records) == 2
    assert "no route" in caplog.text
    assert "redis://user:***@host:6379/0" in caplog.text
    assert "s3cret" not in caplog.text
    assert breaker.last_error is not None
    assert "s3cret" not in breaker.last_error


def test_an_error_reply_is_logged_without_its_text_once_a_minute(
    breaker: Breaker, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse() -> NoReturn:
        raise redis.ResponseError("ERR unknown command 'X', with args beginning with: 'my-token'")

    for _ in range(5):
        breaker.attempt(refuse)
    assert len(caplog.records) == 1
    assert "ResponseError ERR" in caplog.text
    assert "my-token" not in caplog.text
    clock.now += 61
    breaker.attempt(refuse)
    assert len(caplog.records) == 2


def test_a_refused_attempt_costs_microseconds() -> None:
    breaker = Breaker(60, URL)
    breaker.attempt(fail)
    best = min(_timed(breaker) for _ in range(200))
    assert best < 50e-6, f"{best * 1e6:.1f} µs"


def _timed(breaker: Breaker) -> float:
    started = time.perf_counter()
    breaker.attempt(fail)
    return time.perf_counter() - started


def test_an_attempt_has_its_limit_and_its_insistence_also_while_closed() -> None:
    breaker = Breaker(1.0, limit=0.25)
    assert breaker.state == "closed"
    seconds = breaker.attempt(lambda: left(None))
    assert isinstance(seconds, float)
    assert 0.2 < seconds <= 0.25
    assert breaker.attempt(lambda: LIMITS.insist, insist=True) is True
    assert breaker.attempt(lambda: LIMITS.insist) is False
    assert left(None) == math.inf


def test_an_answer_that_took_too_long_counts_as_a_failure_also_while_closed() -> None:
    breaker = Breaker(60.0, limit=0.02)

    def slow() -> str:
        time.sleep(0.02)
        return "late"

    assert breaker.attempt(slow) == "late"
    assert breaker.state == "open"
