"""Many threads on a small pool, some of them cancelled: no lost row, no doubled row, no leaked connection.

ROOTSTREAM_SOAK_SECONDS says for how long; twenty by default, sixty by `make soak`.
"""

from __future__ import annotations

import gc
import itertools
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from rootstream_store import events
from rootstream_store.errors import AlreadyExists, Conflict, InvalidInput, NotFound, RootStreamError, Timeout
from rootstream_store.repositories import stream_sessions, streams, usage, users
from rootstream_store.store import Store

from .factories import make_stream, make_user
from .statements import COUNT, SLEEP, make_items, statement
from .waiting import Cancelled, cancel, leave_unraisable_errors_alone, until

SECONDS = float(os.environ.get("ROOTSTREAM_SOAK_SECONDS", "20"))
THREADS = 32
POOL = 8

SUM_USAGE = statement("SELECT coalesce(sum(bytes_transferred), 0)::bigint FROM usage_logs", int)
COUNT_USAGE = statement("SELECT count(*) FROM usage_logs WHERE event_type = 'soak'", int)
COUNT_USERS = statement("SELECT count(*) FROM users WHERE username LIKE 'soak%%'", int)
COUNT_EVENTS = statement("SELECT count(*) FROM event_log WHERE aggregate_type = 'Soak'", int)
NAMES = statement("SELECT name FROM items ORDER BY id", str)
ADD = statement("INSERT INTO items (id, name) VALUES (%(id)s::bigint, %(name)s::text)")

numbers = itertools.count(1)


class Tally:
    """What the threads were told was done."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.done: Counter[str] = Counter()

    def add(self, what: str, number: int = 1) -> None:
        with self.lock:
            self.done[what] += number


class Work:
    """The kinds of work, each told to the tally only when it is done."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.tally = Tally()
        self.streams = [make_stream(store) for _ in range(8)]

    def read(self) -> None:
        stream = random.choice(self.streams)
        assert users.get(self.store, stream.user_id).id == stream.user_id
        assert streams.get(self.store, stream.id).name == stream.name

    def sign_up(self) -> None:
        make_user(self.store, username=f"soak{next(numbers)}")
        self.tally.add("users")

    def sign_up_twice(self) -> None:
        user = make_user(self.store, username=f"soak{next(numbers)}")
        self.tally.add("users")
        with pytest.raises(AlreadyExists):
            make_user(self.store, username=user.username.upper())

    def log_usage(self) -> None:
        stream = random.choice(self.streams)
        usage.log(self.store, stream.user_id, event_type="soak", stream_id=stream.id, bytes_transferred=7)
        self.tally.add("usage")

    def append(self) -> None:
        events.append(self.store, "Soak", f"s{random.randrange(4)}", "happened", {"n": 1})
        self.tally.add("events")

    def add_viewers(self) -> None:
        stream = self.streams[0]
        try:
            stream_sessions.add_viewers(self.store, stream.id, joined=1)
        except (NotFound, Conflict):
            return  # off air just now
        self.tally.add("viewers")

    def together(self) -> None:
        stream = random.choice(self.streams)
        with self.store.transaction() as tx:
            make_user(tx, username=f"soak{next(numbers)}")
            usage.log(tx, stream.user_id, event_type="soak", bytes_transferred=7)
            events.append(tx, "Soak", f"s{random.randrange(4)}", "happened", {})
        for what in ("users", "usage", "events"):
            self.tally.add(what)

    def roll_back(self) -> None:
        def work() -> None:
            with self.store.transaction() as tx:
                make_user(tx, username=f"soak{next(numbers)}")
                usage.log(tx, self.streams[0].user_id, event_type="soak", bytes_transferred=7)
                users.get(tx, 0)

        with pytest.raises(NotFound):
            work()

    def fail(self) -> None:
        with pytest.raises(InvalidInput):
            usage.log(self.store, self.streams[0].user_id, event_type="Not Allowed")
        with pytest.raises(NotFound):
            users.get(self.store, 0)

    def all(self) -> list[Callable[[], None]]:
        return [
            self.read,
            self.read,
            self.sign_up,
            self.sign_up_twice,
            self.log_usage,
            self.append,
            self.add_viewers,
            self.together,
            self.roll_back,
            self.fail,
        ]


@pytest.fixture
def soaked(database_url: str, redis_url: str) -> Iterator[Store]:
    make_items(database_url)
    with Store.open(database_url, redis_url, pool_size=POOL, pool_timeout=30) as store:
        yield store


@pytest.mark.slow
@pytest.mark.timeout(SECONDS * 2 + 120)
def test_many_threads_on_a_small_pool(soaked: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_unraisable_errors_alone(monkeypatch)
    work = Work(soaked)
    streams.start(soaked, work.streams[0].id)
    until(lambda: soaked._pool.in_use() == 0)
    problems: list[BaseException] = []
    stop, asleep = threading.Event(), threading.Event()

    def run() -> None:
        kinds = work.all()
        while not stop.is_set():
            try:
                random.choice(kinds)()
            except BaseException as error:  # noqa: BLE001  # told by the main thread
                problems.append(error)
                return

    def be_cancelled() -> None:
        """Transactions of two rows, of which there must be both or none, whenever it is cancelled."""
        try:
            while not stop.is_set():
                pair = next(numbers)
                with soaked.transaction() as tx:
                    tx.run(ADD, id=2 * pair, name=f"left {pair}")
                    if random.random() < 0.5:
                        # Cancelled here, waiting for the server: psycopg_pool itself cannot be interrupted
                        # safely at any point.
                        asleep.set()
                        tx.run(SLEEP, seconds=0.5)
                        asleep.clear()
                    tx.run(ADD, id=2 * pair + 1, name=f"right {pair}")
                soaked.one(COUNT)
        except Cancelled:
            pass
        except RootStreamError as error:
            if not isinstance(error, Timeout):
                problems.append(error)

    threads = [threading.Thread(target=run, daemon=True) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + SECONDS
    cancelled = 0
    while time.monotonic() < end and not problems:
        victim = threading.Thread(target=be_cancelled, daemon=True)
        victim.start()
        asleep.wait(60)
        assert cancel(victim)
        victim.join(60)
        assert not victim.is_alive()
        asleep.clear()
        cancelled += 1
    stop.set()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    if problems:
        raise problems[0]
    gc.collect()

    done = work.tally.done
    assert min(done[what] for what in ("users", "usage", "events", "viewers")) > 0
    assert cancelled > SECONDS / 10
    assert soaked.one(COUNT_USERS) == done["users"]
    assert soaked.one(COUNT_USAGE) == done["usage"]
    assert soaked.one(COUNT_EVENTS) == done["events"]
    for number in range(4):
        log = events.read(
            soaked,
            "Soak",
            f"s{number}",
            after_version=max(0, events.get_version(soaked, "Soak", f"s{number}") - 500),
        )
        versions = [event.version for event in log]
        assert versions == list(range(versions[0], versions[0] + len(versions))), "no gap, no double"
    assert streams.stop(soaked, work.streams[0].id).total_viewers == done["viewers"]
    halves = Counter(name.split()[1] for name in soaked.all(NAMES))
    assert set(halves.values()) <= {2}, "both rows of a transaction, or none"

    until(lambda: soaked._pool.in_use() == 0, "pool at rest")
    taken = [soaked._pool.acquire(timeout=20) for _ in range(POOL)]
    with pytest.raises(Timeout):
        soaked._pool.acquire(timeout=0.1)
    for connection in taken:
        soaked._pool.release(connection)
    assert soaked._pool.in_use() == 0
