"""Redis frozen, killed and started again while messages are published: what arrives, and what is told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from rootstream_store import live
from rootstream_store.cache import keys
from rootstream_store.cache._announcer import MOST_WAITING
from rootstream_store.errors import Unavailable
from rootstream_store.store import Store

from ..cache.conftest import OwnValkey
from ..waiting import until
from .conftest import Goal, MakeStore, drain


class Reader:
    """Reads in a thread until it is closed."""

    def __init__(self, store: Store, since: str | None = None) -> None:
        self.numbers: list[int] = []
        self.gaps: list[live.Gap] = []
        self.messages = live.subscribe(store, "goal.*", since=since, types=[Goal])
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        for one in self.messages:
            if isinstance(one, live.Gap):
                self.gaps.append(one)
            elif isinstance(one.message, Goal):
                self.numbers.append(one.message.number)

    def close(self) -> None:
        self.messages.close()
        self._thread.join(10)
        assert not self._thread.is_alive()

    @property
    def missing(self) -> int:
        """How many the gaps say that publishers lost, at most."""
        return sum(gap.missing or 0 for gap in self.gaps if gap.reason == "unpublished")


class Writer:
    """Publishes one number after another until it is stopped; remembers which Redis has acknowledged."""

    def __init__(self, store: Store, *, soon: bool) -> None:
        self.sent = 0
        self.acknowledged: set[int] = set()
        self.slowest = 0.0
        self._store = store
        self._soon = soon
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write)
        self._thread.start()

    def _write(self) -> None:
        while not self._stop.is_set():
            lost = self._store._cache.counters.lost_effects
            began = time.monotonic()
            live.publish(self._store, Goal(stream_id=1, number=self.sent), soon=self._soon)
            self.slowest = max(self.slowest, time.monotonic() - began)
            if not self._soon and self._store._cache.counters.lost_effects == lost:
                self.acknowledged.add(self.sent)
            self.sent += 1
            self._stop.wait(0.0005)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(10)
        assert not self._thread.is_alive()


def publish_until_read(store: Store, reader: Reader, number: int) -> None:
    def try_once() -> bool:
        live.publish(store, Goal(stream_id=1, number=number))
        time.sleep(0.05)  # between attempts, not instead of a condition
        return number in reader.numbers

    until(try_once)


@pytest.mark.parametrize("soon", [False, True])
def test_frozen_under_load(make_store: MakeStore, own_valkey: OwnValkey, soon: bool) -> None:
    """What was acknowledged arrives, in order and once; what was not is within what the gaps tell."""
    store, other = make_store(), make_store()
    reader, writer = Reader(other), Writer(store, soon=soon)
    for _ in range(3):
        at_least = writer.sent + 200
        until(lambda at_least=at_least: writer.sent > at_least)  # type: ignore[misc]  # a default of a lambda
        own_valkey.freeze()
        time.sleep(0.4)  # how long it is frozen
        own_valkey.thaw()
    at_least = writer.sent + 200
    until(lambda: writer.sent > at_least)
    writer.stop()
    publish_until_read(store, reader, -1)
    until(lambda: reader.missing == store._cache.counters.lost_effects, "the loss to be told")
    reader.close()
    numbers = [number for number in reader.numbers if number >= 0]
    assert numbers == sorted(set(numbers)), "once, and in order"
    assert writer.acknowledged <= set(numbers)
    assert writer.sent - len(numbers) <= reader.missing
    assert {gap.reason for gap in reader.gaps} <= {"unpublished"}
    assert len({gap.publisher for gap in reader.gaps}) <= 1
    assert writer.slowest < (0.6 if not soon else 0.1)
    if soon:
        assert reader.missing <= 3 * 256, "the rest waited"


@pytest.mark.parametrize("soon", [False, True])
def test_killed_and_empty_under_load(make_store: MakeStore, own_valkey: OwnValkey, soon: bool) -> None:
    store, other = make_store(), make_store()
    reader, writer = Reader(other), Writer(store, soon=soon)
    until(lambda: writer.sent > 300)
    own_valkey.kill()
    after_kill = writer.sent
    time.sleep(0.3)  # how long it is away
    own_valkey.start()
    until(lambda: any(number > after_kill for number in reader.numbers))
    at_least = writer.sent + 300
    until(lambda: writer.sent > at_least)
    writer.stop()
    publish_until_read(store, reader, -1)
    until(lambda: reader.missing == store._cache.counters.lost_effects, "the loss to be told")
    reader.close()
    numbers = [number for number in reader.numbers if number >= 0]
    assert numbers == sorted(set(numbers))
    assert "restarted" in {gap.reason for gap in reader.gaps}
    if not soon:
        # Missing are at most those that the old server had and this reader not, and those that are counted.
        first_after = min(number for number in numbers if number > after_kill)
        assert {n for n in writer.acknowledged if n >= first_after} <= set(numbers)
    assert writer.slowest < 0.6


def test_a_reader_frozen_out_comes_back_to_all_of_it(make_store: MakeStore, own_valkey: OwnValkey) -> None:
    """The server was away for nobody but time: nothing was published, nothing is missing."""
    store = make_store()
    reader = Reader(store)
    live.publish(store, Goal(stream_id=1, number=1))
    until(lambda: reader.numbers == [1])
    own_valkey.freeze()
    time.sleep(1.5)  # long enough for the reader to look by itself, and fail
    own_valkey.thaw()
    publish_until_read(make_store(), reader, 2)
    reader.close()
    assert set(reader.numbers) == {1, 2}
    assert reader.gaps == []


def test_what_could_not_be_published_is_told_when_redis_is_back(
    make_store: MakeStore, own_valkey: OwnValkey
) -> None:
    store = make_store()
    reader = Reader(store)
    own_valkey.freeze()
    for number in range(10):
        live.publish(store, Goal(stream_id=1, number=number))
    assert store._cache.counters.lost_effects == 10
    own_valkey.thaw()
    until(lambda: reader.missing == 10)
    reader.close()
    gap = reader.gaps[0]
    assert gap.since is not None
    assert gap.until is not None
    assert gap.since <= gap.until
    assert gap.publisher is not None
    # The one that was under way when it froze may have arrived: told as missing all the same.
    assert reader.numbers in ([], [0])


def test_more_than_can_wait_is_dropped_oldest_first_and_counted(
    make_store: MakeStore, own_valkey: OwnValkey
) -> None:
    store = make_store()
    reader = Reader(store)
    own_valkey.freeze()
    live.publish(store, Goal(stream_id=1, number=-5))  # opens the breaker
    for number in range(MOST_WAITING + 500):
        live.publish(store, Goal(stream_id=1, number=number), soon=True)
    assert store._cache.counters.lost_effects >= 501
    own_valkey.thaw()
    last = MOST_WAITING + 499
    until(lambda: reader.numbers and reader.numbers[-1] == last)
    until(lambda: reader.missing == store._cache.counters.lost_effects)
    reader.close()
    numbers = [number for number in reader.numbers if number >= 0]
    assert numbers == list(range(MOST_WAITING + 500 - len(numbers), MOST_WAITING + 500))
    assert len(numbers) + reader.missing >= MOST_WAITING + 500


def test_what_waits_is_not_tried_on_a_server_that_others_found_dead(
    make_store: MakeStore, own_valkey: OwnValkey
) -> None:
    store = make_store()
    reader = Reader(make_store())
    own_valkey.freeze()
    with pytest.raises(Unavailable):
        live.get_state(store, 1)  # opens the breaker
    for number in range(1000):
        live.publish(store, Goal(stream_id=1, number=number), soon=True)
    time.sleep(0.5)  # how long it is away: some attempts
    own_valkey.thaw()
    until(lambda: len(reader.numbers) == 1000)
    reader.close()
    assert reader.numbers == list(range(1000))
    assert reader.gaps == []
    assert store._cache.counters.lost_effects == 0


def test_closing_while_redis_is_away_does_not_wait_for_it(
    make_store: MakeStore, own_valkey: OwnValkey
) -> None:
    store = make_store(redis_timeout=0.25)
    live.publish(store, Goal(stream_id=1), soon=True)
    own_valkey.freeze()
    for number in range(1000):
        live.publish(store, Goal(stream_id=1, number=number), soon=True)
    cache = store._cache
    began = time.monotonic()
    store.close()
    assert time.monotonic() - began < 1.2
    assert cache.counters.lost_effects >= 1000 - 256


def test_a_full_server_is_a_loss_that_is_told(own: Store) -> None:
    reader = Reader(own)
    live.publish(own, Goal(stream_id=1, number=1))
    own.redis.config_set("maxmemory-policy", "noeviction")
    own.redis.config_set("maxmemory", 1)
    live.publish(own, Goal(stream_id=1, number=2), Goal(stream_id=1, number=3))
    assert own._cache.counters.lost_effects == 2
    own.redis.config_set("maxmemory", 0)
    until(lambda: reader.missing == 2)
    reader.close()
    assert reader.numbers == [1]


def test_a_server_that_forgot_the_script_is_taught_it_again(own: Store) -> None:
    reader = Reader(own)
    for number in range(3):
        own.redis.script_flush()
        live.publish(own, Goal(stream_id=1, number=number))
    until(lambda: reader.numbers == [0, 1, 2])
    reader.close()
    assert own._cache.counters.lost_effects == 0


def test_a_clock_that_goes_back_does_not_stop_the_messages(own: Store) -> None:
    """The newest message is of the future: those after it keep its time."""
    with live.subscribe(own, types=[Goal]) as messages:
        ahead = int(time.time() * 1000) + 3_600_000
        command: Callable[..., object] = own.redis.execute_command
        command("XADD", keys.MESSAGES, f"{ahead}-500", "t", "goal.1.reached", "m", b"{}")
        for number in range(3):
            live.publish(own, Goal(stream_id=1, number=number))
        found = drain(messages, 4)
    assert [one.id for one in found if isinstance(one, live.Received)] == [
        f"{ahead}-{number}" for number in range(500, 504)
    ]


def test_there_is_no_thread_before_it_is_needed_nor_after_the_end(make_store: MakeStore) -> None:
    def threads() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == "rootstream-announce"]

    store = make_store()
    live.publish(store, Goal(stream_id=1))
    assert threads() == []
    live.publish(store, Goal(stream_id=1), soon=True)
    assert len(threads()) == 1
    store.close()
    assert threads() == []
