"""Group append: many threads, few statements, and for each append what it would have got alone."""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest

from rootstream_store import events
from rootstream_store.errors import AlreadyExists, InvalidInput, Unavailable, VersionConflict
from rootstream_store.events import EXISTS, NO_STREAM, Appender, NewEvent
from rootstream_store.store import Store

from ..waiting import Cancelled, cancel, until


class Gate:
    """Holds the first statement back until it is opened, so that appends gather behind it; counts them."""

    def __init__(self, store: Store) -> None:
        self.open = threading.Event()
        self.seen: list[str] = []
        self.error: Exception | None = None
        store.observe(self)

    def __call__(self, name: str, action: Callable[[], Any]) -> Any:
        self.seen.append(name)
        if len(self.seen) == 1:
            assert self.open.wait(20)
        elif self.error is not None:
            error, self.error = self.error, None
            raise error
        return action()


@pytest.fixture
def gate(store: Store) -> Iterator[Gate]:
    made = Gate(store)
    yield made
    store.observe(None)


def gathered(
    appender: Appender, gate: Gate, calls: Sequence[Callable[[], Any]]
) -> tuple[ThreadPoolExecutor, list[Any]]:
    """Starts a first append that is held back, and the calls, in their order, behind it."""
    pool = ThreadPoolExecutor(len(calls) + 1)
    pool.submit(appender.append, "Stream", "first", "E", {})
    until(lambda: gate.seen)
    running = []
    for number, call in enumerate(calls, 1):
        running.append(pool.submit(call))
        until(lambda number=number: len(appender._waiting) == number)  # type: ignore[misc]  # bound now
    gate.open.set()
    return pool, running


def test_a_lone_append_is_as_any_other(store: Store) -> None:
    appender = Appender(store)
    first = appender.append("Stream", 7, "E", {"n": 1}, user_id=3, metadata={"m": 1}, correlation_id="c")
    assert appender.append_many("Stream", 7, [NewEvent("E", {})] * 3, expected=1)[-1].version == 4
    assert appender.append_many("Stream", 7, []) == []
    event = events.get(store, "Stream", 7, 1)
    assert (event.position, event.event_id, event.user_id) == (first.position, first.event_id, 3)
    assert event.metadata == {"m": 1, "correlation_id": "c"}


def test_what_gathers_goes_out_in_one_statement_and_in_order(store: Store, gate: Gate) -> None:
    appender = Appender(store)
    calls = [
        lambda number=number: appender.append("Stream", str(number % 3), "E", {"number": number})
        for number in range(30)
    ]
    pool, running = gathered(appender, gate, calls)
    results = [one.result(20) for one in running]
    pool.shutdown()
    assert gate.seen[1:] == ["events/append_together"]
    for name in range(3):
        found = events.read(store, "Stream", name)
        assert [event.event_data["number"] for event in found] == list(range(name, 30, 3))
        assert [event.version for event in found] == [results[n].version for n in range(name, 30, 3)]
        assert [event.event_id for event in found] == [results[n].event_id for n in range(name, 30, 3)]


def test_each_gets_a_verdict_of_its_own(store: Store, gate: Gate) -> None:
    store.observe(None)
    events.append_many(store, "Stream", "a", [NewEvent("E", {})] * 2)
    store.observe(gate)
    appender = Appender(store)

    def on(name: str, expected: Any = events.ANY) -> Callable[[], Any]:
        return lambda: appender.append("Stream", name, "E", {}, expected=expected)

    calls = [on("a", 2), on("a", 2), on("a", 3), on("a"), on("new", NO_STREAM), on("new", NO_STREAM),
             on("none", EXISTS), on("b"), on("b"), on("b", EXISTS), on("a", 9)]  # fmt: skip
    pool, running = gathered(appender, gate, calls)
    seen = [one.exception(20) or one.result() for one in running]
    pool.shutdown()
    kinds = [one if isinstance(one, Exception) else one.version for one in seen]
    conflicts = [number for number, kind in enumerate(kinds) if isinstance(kind, VersionConflict)]
    assert conflicts == [1, 5, 6, 10]
    assert [kinds[number] for number in (0, 2, 3, 4, 7, 8, 9)] == [3, 4, 5, 1, 1, 2, 3]


def test_the_fault_of_one_is_not_that_of_the_others(store: Store, gate: Gate) -> None:
    appender = Appender(store)
    known = uuid.uuid4()
    store.observe(None)
    events.append(store, "Stream", "known", "E", {}, event_id=known)
    store.observe(gate)
    calls = [
        lambda: appender.append("Stream", "a", "E", {}),
        lambda: appender.append("Stream", "a", "E", {"n": msgspec.Raw(b"1e200000")}),  # too large for jsonb
        lambda: appender.append("Stream", "a", "E", {}, expected=2**63),
        lambda: appender.append("Stream", "known", "E", {}, event_id=known),
        lambda: appender.append("Stream", "known", "E", {"other": 1}, event_id=known),
        lambda: appender.append("Stream", "a", "E", {}),
    ]
    pool, running = gathered(appender, gate, calls)
    seen: list[Any] = [one.exception(20) or one.result() for one in running]
    pool.shutdown()
    assert {seen[0].version, seen[5].version} == {1, 2}
    for number, kind in ((1, InvalidInput), (2, InvalidInput), (4, AlreadyExists)):
        assert isinstance(seen[number], kind)
    assert seen[3].event_id == known
    assert events.get_version(store, "Stream", "known") == 1


@pytest.mark.parametrize(
    "append",
    [
        lambda appender: appender.append("Stream", "a", "E", "no object"),
        lambda appender: appender.append("Stream", None, "E", {}),
        lambda appender: appender.append("Stream", "x" * 256, "E", {}),
        lambda appender: appender.append("Stream", "a", "", {}),
        lambda appender: appender.append("Stream", "a", "E", {}, expected=-1),
        lambda appender: appender.append_many("Stream", "a", [5]),
    ],
)
def test_bad_input_is_refused_before_it_gathers(store: Store, append: Callable[[Appender], Any]) -> None:
    appender = Appender(store)
    with pytest.raises(InvalidInput):
        append(appender)
    assert not appender._is_led
    with pytest.raises(InvalidInput):
        Appender(store, most=0)


def test_a_lost_group_is_told_to_all_but_those_that_can_be_repeated(store: Store, gate: Gate) -> None:
    appender = Appender(store)
    gate.error = Unavailable("lost", outcome_unknown=True)
    calls = [
        lambda: appender.append("Stream", "a", "E", {}),
        lambda: appender.append("Stream", "b", "E", {}, event_id=uuid.uuid4()),
    ]
    pool, running = gathered(appender, gate, calls)
    error = running[0].exception(20)
    assert isinstance(error, Unavailable)
    assert error.outcome_unknown
    assert running[1].result(20).version == 1
    pool.shutdown()
    assert appender.append("Stream", "a", "E", {}).version == 1, "and it goes on"


def test_a_thread_that_is_cancelled_takes_nobody_along(store: Store, gate: Gate) -> None:
    appender = Appender(store)
    ended: list[type[BaseException]] = []

    def waiting() -> None:
        try:
            appender.append("Stream", "cancelled", "E", {})
        except Cancelled:
            ended.append(Cancelled)

    thread = threading.Thread(target=waiting)

    def start() -> Any:
        thread.start()
        thread.join()

    pool, running = gathered_and_cancelled(appender, gate, thread, start)
    assert running.result(20).version == 1
    pool.shutdown()
    thread.join(20)
    assert ended == [Cancelled]
    assert not appender._is_led


def gathered_and_cancelled(
    appender: Appender, gate: Gate, thread: threading.Thread, start: Callable[[], Any]
) -> tuple[ThreadPoolExecutor, Any]:
    pool = ThreadPoolExecutor(3)
    pool.submit(appender.append, "Stream", "first", "E", {})
    until(lambda: gate.seen)
    pool.submit(start)
    until(lambda: len(appender._waiting) == 1)
    after = pool.submit(appender.append, "Stream", "after", "E", {})
    until(lambda: len(appender._waiting) == 2)
    cancel(thread)  # it takes effect when the thread is called, to lead the next group
    gate.open.set()
    return pool, after


def test_many_threads_on_one_aggregate(store: Store) -> None:
    """With versions expected and not, one event and two at a time: none lost, none doubled, and those of each
    thread in the order in which it appended them."""
    appender = Appender(store, most=10)

    def write(seed: int) -> int:
        done = 0
        for number in range(40):
            data = {"by": seed, "n": number}
            if number % 10 == 5:
                version = events.get_version(store, "Stream", "hot")
                with contextlib.suppress(VersionConflict):
                    appender.append("Stream", "hot", "E", data, expected=version)
                    done += 1
            else:
                done += len(appender.append_many("Stream", "hot", [NewEvent("E", data)] * 2))
        return done

    with ThreadPoolExecutor(12) as pool:
        total = sum(pool.map(write, range(12)))
    with events.stream_all(store) as found:
        log = list(found)
    assert [event.version for event in log] == list(range(1, total + 1))
    assert events.get_version(store, "Stream", "hot") == total
    for seed in range(12):
        own = [event.event_data["n"] for event in log if event.event_data["by"] == seed]
        assert own == sorted(own)
