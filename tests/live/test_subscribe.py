"""What a subscriber gets: by topic, from a place on, each message once, and what is missing told."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rootstream_store import Store, live
from rootstream_store.cache import keys
from rootstream_store.errors import InvalidInput, SettingsError, StoreClosed, Timeout, Unavailable

from ..cache.conftest import OwnValkey
from ..waiting import until
from .conftest import Goal, MakeStore, drain


def numbers(found: list[live.Received | live.Gap]) -> list[int]:
    return [one.message.number for one in found if isinstance(one, live.Received)]  # type: ignore[union-attr]  # Goals


def send(store: Store, first: int, behind: int) -> None:
    for number in range(first, behind):
        live.publish(store, Goal(stream_id=1, number=number))


def ids(store: Store) -> list[str]:
    found: Any = store.redis.xrange(keys.MESSAGES)
    return [entry[0].decode() for entry in found]


@pytest.mark.parametrize(
    ("pattern", "topics"),
    [
        ("*", ["goal.1.reached", "goal.11.reached", "viewer.1.joined"]),
        ("goal.1.*", ["goal.1.reached"]),
        ("*.1.*", ["goal.1.reached", "viewer.1.joined"]),
        ("goal.*", ["goal.1.reached", "goal.11.reached"]),
        ("goal.?.reached", ["goal.1.reached"]),
        (["viewer.*", "goal.11.*"], ["goal.11.reached", "viewer.1.joined"]),
        ("GOAL.*", []),
    ],
)
def test_topics_by_pattern(store: Store, pattern: str | list[str], topics: list[str]) -> None:
    with live.subscribe(store, pattern, types=[Goal]) as messages:
        live.publish(store, Goal(stream_id=1), Goal(stream_id=11))
        live.publish(store, live.ViewerJoined(stream_id=1, viewer_id="x", viewers=3))
        found = drain(messages, len(topics))
        assert messages.get(0.05) is None
    assert [one.topic for one in found if isinstance(one, live.Received)] == topics


def test_a_type_that_the_subscriber_was_not_told_of_comes_raw(store: Store) -> None:
    with live.subscribe(store) as messages:
        live.publish(store, Goal(stream_id=1, number=5))
        got = messages.get(10)
    assert isinstance(got, live.Received)
    assert isinstance(got.message, live.RawMessage)
    assert got.message.type == "goal.reached"
    assert got.message.data["number"] == 5


def test_the_time_is_that_of_the_server(store: Store) -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    send(store, 0, 1)
    with live.subscribe(store, since="start") as messages:
        got = messages.get(10)
    assert isinstance(got, live.Received)
    assert before <= got.time <= datetime.now(UTC)


def test_where_reading_begins(store: Store) -> None:
    send(store, 0, 5)
    until(lambda: time.time() * 1000 > int(ids(store)[-1].partition("-")[0]) + 2)
    middle = datetime.now(UTC)
    until(lambda: datetime.now(UTC) > middle + timedelta(milliseconds=2))
    send(store, 5, 10)

    def read(since: Any, count: int) -> list[int]:
        with live.subscribe(store, since=since, types=[Goal]) as messages:
            found = drain(messages, count)
            assert not any(isinstance(one, live.Gap) for one in found)
            send(store, 99, 100)
            assert numbers(drain(messages, 1)) == [99]
        last = ids(store)[-1]
        store.redis.xdel(keys.MESSAGES, last)
        # The next message gets its number, which a stream refuses within the same millisecond.
        until(lambda: time.time() * 1000 > int(last.partition("-")[0]) + 2)
        return numbers(found)

    assert read("start", 10) == list(range(10))
    assert read(ids(store)[2], 7) == list(range(3, 10))
    assert read(middle, 5) == list(range(5, 10))
    with live.subscribe(store, types=[Goal]) as messages:
        assert messages.get(0.05) is None


@pytest.mark.parametrize(
    "wrong", ["", "7", "a-b", "1-2-3", 7, b"1-1", datetime(2026, 1, 1), "1-1\n", "\u0663-\u0661"]
)
def test_a_place_that_is_none_is_refused(store: Store, wrong: Any) -> None:
    with pytest.raises(InvalidInput, match="since"):
        live.subscribe(store, since=wrong)


@pytest.mark.parametrize("wrong", [[], 5, [5], None])
def test_a_pattern_that_is_none_is_refused(store: Store, wrong: Any) -> None:
    with pytest.raises((InvalidInput, TypeError)):
        live.subscribe(store, wrong)


def test_a_reader_that_comes_back_has_all_hundred(store: Store) -> None:
    send(store, 0, 1)
    with live.subscribe(store, since="start", types=[Goal]) as messages:
        first = messages.get(10)
    assert isinstance(first, live.Received)
    send(store, 1, 101)
    with live.subscribe(store, since=first.id, types=[Goal]) as messages:
        assert numbers(drain(messages, 100)) == list(range(1, 101))
        assert messages.get(0.05) is None


def test_a_connection_that_is_lost_costs_nothing(own: Store) -> None:
    with live.subscribe(own, types=[Goal]) as messages:
        for round_ in range(5):
            own.redis.client_kill_filter(_type="pubsub")
            send(own, 20 * round_, 20 * round_ + 20)
            assert numbers(drain(messages, 20)) == list(range(20 * round_, 20 * round_ + 20))
            assert messages.get(0.02) is None
        assert messages.last_error is not None


def test_a_lost_wake_up_costs_a_second(own: Store) -> None:
    with live.subscribe(own, types=[Goal]) as messages:
        send(own, 0, 1)
        first = messages.get(10)
        assert isinstance(first, live.Received)
        ms, _, number = first.id.partition("-")
        command: Callable[..., object] = own.redis.execute_command
        payload = b'{"type":"goal.reached","stream_id":1}'
        command("XADD", keys.MESSAGES, f"{ms}-{int(number) + 1}", "t", "goal.1.reached", "m", payload)
        began = time.monotonic()
        assert isinstance(messages.get(10), live.Received)
        assert time.monotonic() - began < 1.5


def test_what_was_trimmed_is_told_with_how_many(make_store: MakeStore) -> None:
    store = make_store(live_kept_messages=100)
    send(store, 0, 1)
    with live.subscribe(store, since="start", types=[Goal]) as messages:
        first = messages.get(10)
    assert isinstance(first, live.Received)
    live.publish(store, *(Goal(stream_id=1, number=number) for number in range(1, 2000)))
    kept = int(store.redis.xlen(keys.MESSAGES))
    assert 100 <= kept <= 200
    with live.subscribe(store, since=first.id, types=[Goal]) as messages:
        gap = messages.get(10)
        assert isinstance(gap, live.Gap)
        assert (gap.reason, gap.missing) == ("trimmed", 1999 - kept)
        assert gap.since == first.time
        assert numbers(drain(messages, kept)) == list(range(2000 - kept, 2000))
        assert messages.get(0.05) is None
    # Of a time nobody can count.
    with live.subscribe(store, since=first.time, types=[Goal]) as messages:
        gap = messages.get(10)
        assert isinstance(gap, live.Gap)
        assert (gap.reason, gap.missing) == ("trimmed", None)
        assert len(drain(messages, kept)) == kept


def test_what_is_old_goes_though_there_is_room(make_store: MakeStore) -> None:
    store = make_store(live_kept_seconds=0.05)
    live.publish(store, *(Goal(stream_id=1) for _ in range(500)))
    newest = int(ids(store)[-1].partition("-")[0])
    until(lambda: time.time() * 1000 > newest + 60)
    live.publish(store, Goal(stream_id=1))
    assert int(store.redis.xlen(keys.MESSAGES)) <= 101


def test_a_reader_at_the_end_is_told_nothing_when_its_last_message_goes(make_store: MakeStore) -> None:
    store = make_store(live_kept_messages=1)
    with live.subscribe(store, types=[Goal]) as messages:
        for number in range(1000):
            send(store, number, number + 1)
            assert numbers(drain(messages, 1)) == [number]


def test_a_server_that_comes_back_empty_is_told_and_goes_on(own: Store, own_valkey: OwnValkey) -> None:
    with live.subscribe(own, types=[Goal]) as messages:
        send(own, 0, 3)
        assert numbers(drain(messages, 3)) == [0, 1, 2]
        own_valkey.kill()
        assert messages.get(0.3) is None
        own_valkey.start()
        gap = messages.get(10)
        assert isinstance(gap, live.Gap)
        assert (gap.reason, gap.missing) == ("restarted", None)
        published_until_it_arrives(own, messages)


def published_until_it_arrives(store: Store, messages: live.LiveSubscription) -> None:
    """The breaker may be open still: what is published then is lost, and told."""

    def try_once() -> bool:
        live.publish(store, Goal(stream_id=1, number=77))
        while (got := messages.get(0.3)) is not None:
            if isinstance(got, live.Received) and got.message == Goal(stream_id=1, number=77):
                return True
        return False

    until(try_once)


def test_a_reader_that_knew_nothing_is_told_of_a_restart_too(own: Store, own_valkey: OwnValkey) -> None:
    """Something may have been published before it, that nobody can know of."""
    with live.subscribe(own, types=[Goal]) as messages:
        own_valkey.kill()
        assert messages.get(0.2) is None
        own_valkey.start()
        gap = messages.get(10)
        assert isinstance(gap, live.Gap)
        assert gap.reason == "restarted"


def test_an_id_of_before_the_restart_is_told(
    own: Store, own_valkey: OwnValkey, make_store: MakeStore
) -> None:
    send(own, 0, 5)
    last = ids(own)[-1]
    own_valkey.kill()
    own_valkey.start()
    store = make_store()
    with live.subscribe(store, since=last, types=[Goal]) as messages:
        gap = messages.get(10)
        assert isinstance(gap, live.Gap)
        assert gap.reason == "restarted"
        send(store, 0, 3)
        assert numbers(drain(messages, 3)) == [0, 1, 2]
    with live.subscribe(store, since=last, types=[Goal]) as messages:
        found = drain(messages, 4)
    assert isinstance(found[0], live.Gap)
    assert found[0].reason == "restarted"
    assert numbers(found) == [0, 1, 2]


def test_a_server_that_went_back_is_told(own: Store) -> None:
    """A replica that had not got everything was promoted: its newest message is older than what we read."""
    with live.subscribe(own, types=[Goal]) as messages:
        send(own, 0, 5)
        assert len(drain(messages, 5)) == 5
        for one in ids(own)[2:]:
            own.redis.xdel(keys.MESSAGES, one)
        gap = messages.get(10)
        assert isinstance(gap, live.Gap)
        assert gap.reason == "restarted"
        send(own, 5, 8)
        assert numbers(drain(messages, 3)) == [5, 6, 7]


@pytest.mark.parametrize("state", ["well", "frozen", "dead"])
def test_close_ends_a_waiting_reader_at_once(own: Store, own_valkey: OwnValkey, state: str) -> None:
    messages = live.subscribe(own)
    reading, ended = threading.Event(), list[float]()

    def read() -> None:
        reading.set()
        assert list(messages) == []
        ended.append(time.monotonic())

    reader = threading.Thread(target=read)
    reader.start()
    assert reading.wait(5)
    assert messages.get(0.05) is None, "another thread has it"
    if state == "frozen":
        own_valkey.freeze()
    elif state == "dead":
        own_valkey.kill()
    closed = time.monotonic()
    messages.close()
    reader.join(5)
    assert not reader.is_alive()
    assert ended[0] - closed < (0.1 if state == "well" else 0.8)
    assert messages.closed
    assert messages.get(1) is None
    messages.close()


def test_closing_the_store_ends_its_subscriptions(make_store: MakeStore) -> None:
    store = make_store()
    messages = live.subscribe(store)
    reader = threading.Thread(target=list, args=(messages,))
    reader.start()
    store.close()
    reader.join(5)
    assert not reader.is_alive()
    with pytest.raises(StoreClosed):
        live.subscribe(store)


def test_without_redis_there_is_nothing_to_read(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REDIS_URL", raising=False)
    with Store.open(database_url) as bare, pytest.raises(SettingsError, match="redis_url"):
        live.subscribe(bare)


def test_no_server_is_our_error_in_the_time_set(make_store: MakeStore, own_valkey: OwnValkey) -> None:
    own = make_store(redis_timeout=0.25)
    own_valkey.freeze()
    began = time.monotonic()
    with pytest.raises(Timeout):
        live.subscribe(own)
    assert time.monotonic() - began < 0.6
    own_valkey.kill()
    with pytest.raises(Unavailable):
        live.subscribe(own)


def test_a_slow_reader_holds_nobody_up_and_keeps_little(store: Store) -> None:
    with live.subscribe(store, types=[Goal]) as slow, live.subscribe(store, types=[Goal]) as fast:
        began = time.monotonic()
        live.publish(store, *(Goal(stream_id=1, number=number) for number in range(1000)))
        assert numbers(drain(slow, 1)) == [0]
        for number in range(1000, 5000):
            live.publish(store, Goal(stream_id=1, number=number), soon=True)
        assert numbers(drain(fast, 5000)) == list(range(5000))
        assert time.monotonic() - began < 15
        assert len(slow._ready) <= 500
        assert numbers(drain(slow, 4999)) == list(range(1, 5000))


def test_several_threads_share_the_messages(store: Store) -> None:
    with live.subscribe(store, types=[Goal]) as messages:
        got: list[int] = []

        def read() -> None:
            while (one := messages.get(2)) is not None:
                got.extend(numbers([one]))

        readers = [threading.Thread(target=read) for _ in range(4)]
        for reader in readers:
            reader.start()
        send(store, 0, 400)
        until(lambda: len(got) == 400)
        messages.close()
        for reader in readers:
            reader.join(5)
    assert sorted(got) == list(range(400))


_WRITER = """\
import sys
from rootstream_store import Store, live

class Goal(live.Message, frozen=True, kw_only=True, tag="goal.reached"):
    stream_id: int
    number: int = 0

with Store.open(sys.argv[1], sys.argv[2]) as store:
    for number in range(int(sys.argv[4])):
        live.publish(store, Goal(stream_id=int(sys.argv[3]), number=number), soon=number % 2 == 0)
"""


def test_two_processes_write_and_one_reads(store: Store, database_url: str, redis_url: str) -> None:
    with live.subscribe(store, types=[Goal]) as messages:
        writers = [
            subprocess.Popen([sys.executable, "-c", _WRITER, database_url, redis_url, str(stream), "500"])
            for stream in (1, 2)
        ]
        found = drain(messages, 1000)
        assert [writer.wait(20) for writer in writers] == [0, 0]
        assert messages.get(0.05) is None
    assert not any(isinstance(one, live.Gap) for one in found)
    got = [one.message for one in found if isinstance(one, live.Received)]
    assert sorted((one.stream_id, one.number) for one in got if isinstance(one, Goal)) == [
        (stream, number) for stream in (1, 2) for number in range(500)
    ]


def test_eight_subscribers_get_all_of_it(store: Store) -> None:
    got: list[list[int]] = [[] for _ in range(8)]
    subscriptions = [live.subscribe(store, types=[Goal]) for _ in got]

    def read(mine: int) -> None:
        for one in subscriptions[mine]:
            got[mine].extend(numbers([one]))

    readers = [threading.Thread(target=read, args=(mine,)) for mine in range(8)]
    for reader in readers:
        reader.start()
    for number in range(2000):
        live.publish(store, Goal(stream_id=1, number=number), soon=True)
    until(lambda: all(len(one) == 2000 for one in got))
    for subscription in subscriptions:
        subscription.close()
    for reader in readers:
        reader.join(5)
        assert not reader.is_alive()
    assert got == [list(range(2000))] * 8


@pytest.mark.parametrize("timeout", [float("inf"), float("nan"), 10**300, "1", True])
def test_a_timeout_that_is_no_time_is_refused(store: Store, timeout: Any) -> None:
    with live.subscribe(store) as messages, pytest.raises(InvalidInput, match="timeout"):
        messages.get(timeout)
    with live.follow_state(store, 1) as follower, pytest.raises(InvalidInput, match="timeout"):
        follower.get(timeout)
