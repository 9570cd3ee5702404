from __future__ import annotations

import sys
import threading
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rootstream_store.cache.near import LONGEST, MISSING, NearCache

KEYS = [f"user:{n}" for n in range(12)]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def opened(*, entries: int = 10, size: int = 100_000, clock: Clock | None = None, **values: Any) -> NearCache:
    near = NearCache(entries=entries, size=size, clock=clock or Clock(), **values)
    near.open(good_until=1e9)
    return near


def keep(near: NearCache, key: str, value: object = "value", *, size: int = 10, life: float = 1e6) -> None:
    ticket = near.ticket(key)
    assert ticket is not None
    near.put(ticket, key, value, size=size, life=life)


def test_what_is_kept_is_the_very_object() -> None:
    near, record = opened(), object()
    assert near.get("user:1") is MISSING
    keep(near, "user:1", record)
    keep(near, "user:2", None)
    assert near.get("user:1") is record
    assert near.get("user:2") is None
    assert near.counters.hits == 2


def test_other_keys_are_not_kept() -> None:
    near = opened(prefixes=("user:",))
    for key in ("session:1", "use", "", "auser:1"):
        assert near.ticket(key) is None


def test_nothing_is_kept_before_somebody_hears_of_changes() -> None:
    wanted: list[int] = []
    near = NearCache(entries=10, size=10_000, want=lambda: wanted.append(1))
    assert near.ticket("user:1") is None
    assert wanted == [1]
    near.open(good_until=1e9)
    assert near.ticket("user:1") is not None
    assert wanted == [1]


def test_an_answer_overtaken_by_a_change_is_not_kept() -> None:
    near = opened()

    def change_as_told() -> None:
        near.invalidate([b"user:1"])

    def change_here() -> None:
        near.forget(["user:1"])

    def flush() -> None:
        near.invalidate(None)

    def lose() -> None:
        near.drop()
        near.open(good_until=1e9)

    for change in (change_as_told, change_here, flush, lose):
        ticket = near.ticket("user:1")
        assert ticket is not None
        change()
        near.put(ticket, "user:1", "old", size=3, life=60)
        assert near.get("user:1") is MISSING
    assert near.counters.refused == 4
    keep(near, "user:1", "new")
    assert near.get("user:1") == "new"


def test_a_change_of_another_key_is_none_of_this_one() -> None:
    near = opened()
    ticket = near.ticket("user:1")
    assert ticket is not None
    near.invalidate([b"user:2", b"\xff", b""])
    near.put(ticket, "user:1", "value", size=3, life=60)
    assert near.get("user:1") == "value"


def test_a_second_answer_replaces_the_first() -> None:
    near = opened()
    keep(near, "user:1", "one", size=1000)
    keep(near, "user:1", "two", size=10)
    assert near.get("user:1") == "two"
    assert near.counters.entries == 1
    assert near.counters.bytes < 1000


def test_nothing_is_served_without_a_sign_of_life() -> None:
    clock = Clock()
    near = opened(clock=clock)
    near.extend(clock.now + 1)
    keep(near, "user:1")
    clock.now += 0.99
    assert near.get("user:1") == "value"
    clock.now += 0.01
    assert near.get("user:1") is MISSING
    near.extend(clock.now + 1)
    assert near.get("user:1") == "value", "all changes up to now were told, and this is none of them"


def test_an_answer_lives_as_long_as_it_is_true_and_not_too_long() -> None:
    clock = Clock()
    near = opened(clock=clock)
    keep(near, "user:1", life=5)
    keep(near, "user:2", life=1e6)
    keep(near, "user:3", life=0)
    keep(near, "user:4", life=-1)
    assert near.get("user:3") is near.get("user:4") is MISSING
    clock.now += 5
    assert near.get("user:1") is MISSING
    assert near.get("user:2") == "value"
    clock.now += LONGEST - 5
    assert near.get("user:2") is MISSING


def test_what_is_used_stays_when_room_is_needed() -> None:
    near = opened(entries=10)
    for n in range(1000):
        keep(near, f"user:{n}")
        if n:
            near.get("user:0")
    assert near.get("user:0") == "value"
    assert near.get("user:500") is MISSING
    assert near.counters.entries == 10
    assert near.counters.evicted == 990


def test_what_is_too_large_is_not_kept_and_drives_nothing_out() -> None:
    near = opened(size=2000)
    keep(near, "user:1", size=100)
    keep(near, "user:2", size=2000)
    assert near.get("user:1") == "value"
    assert near.get("user:2") is MISSING


def test_no_more_bytes_are_kept_than_told() -> None:
    near = opened(entries=100, size=5000)
    for n in range(50):
        keep(near, f"user:{n}", size=700)
        assert near.counters.bytes <= 5000
    assert near.counters.entries >= 4


def test_threads_keep_the_account_right() -> None:
    near = opened(entries=50, size=20_000)
    stop = threading.Event()
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            while not stop.is_set():
                for n in range(100):
                    key = f"user:{n}"
                    ticket = near.ticket(key)
                    if near.get(key) is MISSING and ticket is not None:
                        near.put(ticket, key, n, size=n * number, life=60)
                    if n % 7 == number:
                        near.forget([key])
                    if n % 50 == number:
                        near.invalidate([b"user:3", key.encode()])
        except BaseException as error:  # noqa: BLE001  # a thread's failure must fail the test, not vanish
            errors.append(error)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    try:
        for thread in threads:
            thread.start()
        stop.wait(0.5)
    finally:
        stop.set()
        for thread in threads:
            thread.join(10)
        sys.setswitchinterval(before)
    assert errors == []
    counters = near.counters
    assert counters.entries <= 50
    assert counters.bytes <= 20_000
    near.forget(f"user:{n}" for n in range(100))
    assert (near.counters.entries, near.counters.bytes) == (0, 0)


class Bounds(RuleBasedStateMachine):
    """Against a plain dict that forgets nothing by itself: what is served is always what a server would
    have, and never too much is kept."""

    ENTRIES, BYTES = 5, 3000

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.near = NearCache(entries=self.ENTRIES, size=self.BYTES, clock=self.clock)
        self.is_open = False
        self.good_until = 0.0
        self.truth: dict[str, int] = dict.fromkeys(KEYS, 0)
        self.lives: dict[str, float] = {}
        self.tickets: dict[str, tuple[Any, int]] = {}

    @rule(key=st.sampled_from(KEYS))
    def ask(self, key: str) -> None:
        ticket = self.near.ticket(key)
        assert (ticket is not None) == self.is_open
        if ticket is not None:
            self.tickets[key] = ticket, self.truth[key]

    @precondition(lambda self: self.is_open)
    @rule(key=st.sampled_from(KEYS), size=st.integers(0, 4000))
    def keep(self, key: str, size: int) -> None:
        keep(self.near, key, self.truth[key], size=size, life=LONGEST)
        self.lives[key] = self.clock.now + LONGEST

    @precondition(lambda self: self.tickets)
    @rule(data=st.data(), size=st.integers(0, 4000), life=st.floats(-1, 50))
    def answer(self, data: st.DataObject, size: int, life: float) -> None:
        key = data.draw(st.sampled_from(sorted(self.tickets)))
        ticket, version = self.tickets.pop(key)
        self.near.put(ticket, key, version, size=size, life=life)
        if version == self.truth[key]:
            self.lives[key] = max(self.lives.get(key, 0), self.clock.now + min(life, LONGEST))

    @rule(keys=st.lists(st.sampled_from(KEYS), max_size=4), told=st.booleans())
    def change(self, keys: list[str], told: bool) -> None:
        for key in keys:
            self.truth[key] += 1
            self.lives.pop(key, None)
        if told:
            self.near.invalidate([key.encode() for key in keys])
        else:
            self.near.forget(keys)

    @rule()
    def flush(self) -> None:
        for key in KEYS:
            self.truth[key] += 1
        self.lives.clear()
        self.near.invalidate(None)

    @rule()
    def lose(self) -> None:
        self.near.drop()
        self.is_open = False
        for key in KEYS:
            self.truth[key] += 1
        self.lives.clear()

    @rule(seconds=st.floats(0, 100))
    def open(self, seconds: float) -> None:
        self.good_until = self.clock.now + seconds
        self.near.open(self.good_until)
        self.is_open = True
        self.lives.clear()

    @rule(seconds=st.floats(0, 100))
    def extend(self, seconds: float) -> None:
        self.good_until = self.clock.now + seconds
        self.near.extend(self.good_until)

    @rule(seconds=st.floats(0, 20))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @invariant()
    def serves_only_what_is_true(self) -> None:
        for key in KEYS:
            found = self.near.get(key)
            if found is not MISSING:
                assert found == self.truth[key]
                assert self.is_open
                assert self.clock.now < self.good_until
                assert self.clock.now < self.lives[key]

    @invariant()
    def keeps_within_bounds(self) -> None:
        counters = self.near.counters
        assert 0 <= counters.entries <= self.ENTRIES
        assert 0 <= counters.bytes <= self.BYTES
        assert (counters.entries == 0) == (counters.bytes == 0)


TestBounds = Bounds.TestCase
TestBounds.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
