from __future__ import annotations

import ctypes
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from rootstream_store.cache._limits import within
from rootstream_store.cache.client import Pool, connect, pool_of
from rootstream_store.cache.wire import Script, Wire
from rootstream_store.settings import Settings

from .conftest import OwnValkey, until

MakeClient = Callable[..., redis.Redis]

ECHO = Script("return {KEYS[1], ARGV[1], redis.call('INCR', KEYS[1])}")


@pytest.fixture
def make_client(own_valkey: OwnValkey) -> Iterator[MakeClient]:
    """Makes clients of the test's own server; settings as keyword arguments."""
    made: list[redis.Redis] = []

    def make(**values: Any) -> redis.Redis:
        made.append(connect(Settings(database_url="postgresql:///none", redis_url=own_valkey.url, **values)))
        return made[-1]

    yield make
    for client in made:
        pool_of(client).close_idle()


@pytest.fixture
def client(make_client: MakeClient) -> redis.Redis:
    return make_client()


@pytest.fixture
def wire(client: redis.Redis) -> Wire:
    return Wire(client)


class _AnotherPool(Pool):
    """Of a class that Wire knows nothing of."""


@pytest.fixture
def through_client(client: redis.Redis) -> Iterator[Wire]:
    """One that sends all through redis-py's client, as on a cluster."""
    make: Callable[..., Any] = _AnotherPool
    pool = make(**pool_of(client).connection_kwargs, connection_class=_class_of(client))
    yield Wire(redis.Redis(connection_pool=pool))
    pool.close_idle()


def _class_of(client: redis.Redis) -> Any:
    return pool_of(client).connection_class


@pytest.mark.parametrize(
    "command",
    [
        ("PING",),
        ("SET", "key", "välue"),
        ("SET", b"key", b"\x00\xff\r\n", "PX", 1000),
        ("SET", "key", b"x" * 3_000_000),
        ("GET", "number"),
        ("GET", "nothing"),
        ("INCR", "number"),
        ("INCRBYFLOAT", "number", 0.5),
        ("LRANGE", "list", 0, -1),
        ("HGETALL", "hash"),
        ("SMEMBERS", "set"),
        ("ZRANGE", "sorted", 0, -1, "WITHSCORES"),
        ("XRANGE", "stream", "-", "+"),
        ("TYPE", "list"),
        ("EXPIRE", "list", 100),
        ("EXISTS", "list", "nothing"),
        ("TTL", "nothing"),
        ("PUBLISH", "channel", "message"),
        ("CONFIG", "GET", "maxmemory"),
    ],
)
def test_a_reply_is_the_same_either_way(
    client: redis.Redis, wire: Wire, through_client: Wire, command: tuple[str | bytes | int | float, ...]
) -> None:
    def fill() -> None:
        client.flushall()
        client.set("number", 5)
        client.rpush("list", "a", "b")
        client.hset("hash", "field", "value")
        client.sadd("set", "member")
        client.zadd("sorted", {"one": 1.5})
        client.xadd("stream", {"field": "value"}, id="1-1")

    fill()
    alone = wire.command(*command)
    fill()
    assert through_client.command(*command) == alone
    fill()
    together = wire.commands([command, ("PING",)])
    fill()
    assert through_client.commands([command, ("PING",)]) == together == [alone, wire.command("PING")]


def test_an_error_is_the_same_either_way(client: redis.Redis, wire: Wire, through_client: Wire) -> None:
    client.rpush("list", 1)
    for either in (wire, through_client):
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            either.command("GET", "list")
        with pytest.raises(redis.ResponseError, match="unknown command"):
            either.command("NONSENSE")
        with pytest.raises(redis.DataError):
            either.command("SET", "key", None)  # type: ignore[arg-type]  # that is the test
        with pytest.raises(redis.DataError):
            either.commands([("PING",), ("SET", "key", [1])])  # type: ignore[list-item]  # that is the test
        assert either.command("GET", "key") is None
        assert either.commands([]) == []


def test_an_error_among_several_is_told_in_its_place(wire: Wire, through_client: Wire) -> None:
    for either in (wire, through_client):
        number = either.command("CLIENT", "ID")
        replies = either.commands(
            [("SET", "text", "x"), ("INCR", "text"), ("INCR", "n"), ("EVALSHA", "0" * 40, 0), ("GET", "text")]
        )
        assert isinstance(replies[1], redis.ResponseError)
        assert isinstance(replies[3], redis.exceptions.NoScriptError)
        assert (replies[0], replies[4]) == (True, b"x")
        assert either.command("CLIENT", "ID") == number, "an error reply is no reason for a new connection"


def test_several_are_one_round_trip(client: redis.Redis, wire: Wire) -> None:
    def reads() -> int:
        return int(client.info("stats")["total_reads_processed"])

    before = reads()
    assert wire.commands([("INCR", "n")] * 100) == list(range(1, 101))
    # One of the two is the INFO itself.
    assert reads() - before == 2


def test_a_script_is_taught_when_the_server_does_not_know_it(client: redis.Redis, wire: Wire) -> None:
    assert wire.script(ECHO, ["key"], [b"\xff"]) == [b"key", b"\xff", 1]
    assert wire.script(ECHO, ["key"], ["a"]) == [b"key", b"a", 2]
    client.script_flush()
    assert wire.script(ECHO, ["key"], [5]) == [b"key", b"5", 3]


def test_the_connection_used_last_is_used_next_and_is_the_clients_own(
    client: redis.Redis, wire: Wire
) -> None:
    numbers = {wire.command("CLIENT", "ID") for _ in range(20)} | {client.client_id() for _ in range(20)}
    assert len(numbers) == 1


def test_a_restarted_server_is_not_an_error(client: redis.Redis, wire: Wire, own_valkey: OwnValkey) -> None:
    pool: Any = pool_of(client)
    held = [pool.get_connection() for _ in range(5)]
    for connection in held:
        pool.release(connection)
    own_valkey.kill()
    own_valkey.start()
    # Each pooled connection is dead now. INCR, since it must not be sent twice either.
    assert [wire.command("INCR", "count") for _ in range(10)] == list(range(1, 11))


def test_a_server_killed_during_a_call(wire: Wire, own_valkey: OwnValkey) -> None:
    wire.command("PING")
    own_valkey.freeze()
    killer = threading.Timer(0.05, own_valkey.kill)
    killer.start()
    with pytest.raises(redis.ConnectionError):
        wire.command("INCR", "count")
    killer.join()
    with pytest.raises(redis.ConnectionError):
        wire.command("INCR", "count")
    own_valkey.start()
    assert wire.command("INCR", "count") == 1


def test_a_late_reply_is_nobodys(client: redis.Redis, wire: Wire, own_valkey: OwnValkey) -> None:
    client.mset({f"key{n}": n for n in range(10)})
    own_valkey.freeze()
    for call in (
        lambda: wire.command("GET", "key1"),
        lambda: wire.commands([("GET", "key2"), ("GET", "key3")]),
        lambda: wire.script(ECHO, ["key4"], ["x"]),
    ):
        started = time.monotonic()
        with pytest.raises(redis.TimeoutError):
            call()
        assert time.monotonic() - started < 0.5
    own_valkey.thaw()
    for _ in range(3):
        assert [wire.command("GET", f"key{n}") for n in range(10)] == [b"%d" % n for n in range(4)] + [
            wire.command("GET", "key4"),
            *(b"%d" % n for n in range(5, 10)),
        ]


def test_an_answer_that_nobody_waited_for_is_nobodys(
    client: redis.Redis, wire: Wire, own_valkey: OwnValkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted between sending and reading, and called again before the answer is there."""
    client.mset({"one": 1, "two": 2})

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    own_valkey.freeze()
    with monkeypatch.context() as patch:
        patch.setattr(_class_of(client), "read_response", interrupted)
        with pytest.raises(KeyboardInterrupt):
            wire.command("GET", "one")
    thaw = threading.Timer(0.05, own_valkey.thaw)
    thaw.start()
    assert wire.command("GET", "two") == b"2"
    thaw.join()


def test_a_signal_while_it_waits(client: redis.Redis, wire: Wire, own_valkey: OwnValkey) -> None:
    client.mset({"one": 1, "two": 2})

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    own_valkey.freeze()
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(KeyboardInterrupt):
            wire.command("GET", "one")
    finally:
        signal.signal(signal.SIGALRM, before)
    thaw = threading.Timer(0.05, own_valkey.thaw)
    thaw.start()
    assert wire.command("GET", "two") == b"2"
    thaw.join()


def test_exceptions_thrown_into_threads_mix_no_answers_up(client: redis.Redis, wire: Wire) -> None:
    client.mset({f"key{n}": n for n in range(100)})
    wrong: list[object] = []
    answers = [0, 0]
    caught = [0, 0]
    stop = threading.Event()

    class Thrown(Exception):
        pass

    def read(number: int) -> None:
        chance = random.Random(number)
        while not stop.is_set():
            try:
                while not stop.is_set():
                    n = chance.randrange(100)
                    found = wire.command("GET", f"key{n}")
                    if found != b"%d" % n:
                        wrong.append((n, found))
                    answers[number] += 1
            except Thrown:
                caught[number] += 1

    threads = [threading.Thread(target=read, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    chance = random.Random(2)

    def throw_into(number: int) -> None:
        seen = caught[number]
        ident = ctypes.c_ulong(threads[number].ident or 0)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(Thrown))
        until(lambda: caught[number] > seen, "the exception to arrive")
        # It may still be where another one would not be caught: not any more once it reads again.
        done = answers[number]
        until(lambda: answers[number] > done, "the thread to read again")

    for number in [0, 1] * 100:
        throw_into(number)
        time.sleep(chance.random() * 0.002)
    stop.set()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert wrong == []
    assert min(answers) > 200
    assert wire.command("PING")
    pool: Any = pool_of(client)
    assert pool.pool.qsize() >= pool.max_connections - 2, "places in the pool were lost"


def test_messages_out_of_turn_are_no_answers(make_client: MakeClient) -> None:
    """RESP3 lets the server push messages on a connection at any time."""
    client = make_client(redis_pool_size=1)
    wire = Wire(client)
    pushed = wire.commands(
        [("CLIENT", "TRACKING", "ON"), ("GET", "key"), ("SET", "key", 2), ("GET", "key"), ("SET", "key", 3)]
    )
    assert pushed[1:] == [None, True, b"2", True]
    for n in range(5):
        assert wire.command("SET", "key", n) is True
        assert wire.command("GET", "key") == b"%d" % n


def test_a_full_pool_is_waited_for_and_no_longer_than_the_timeout(make_client: MakeClient) -> None:
    client = make_client(redis_pool_size=1)
    wire = Wire(client)
    pool: Any = pool_of(client)
    connection = pool.get_connection()
    started = time.monotonic()
    with pytest.raises(redis.ConnectionError):
        wire.command("PING")
    assert 0.2 < time.monotonic() - started < 0.5
    timer = threading.Timer(0.05, pool.release, (connection,))
    timer.start()
    assert wire.command("PING")
    timer.join()


def test_a_call_with_little_time_left_waits_no_longer_and_leaves_the_next_its_own(
    wire: Wire, own_valkey: OwnValkey
) -> None:
    wire.command("PING")
    number = wire.command("CLIENT", "ID")
    with within(0.05):
        wire.command("PING")
    own_valkey.freeze()
    thaw = threading.Timer(0.1, own_valkey.thaw)
    thaw.start()
    assert wire.command("CLIENT", "ID") == number
    thaw.join()
    own_valkey.freeze()
    started = time.monotonic()
    with within(0.05), pytest.raises(redis.TimeoutError):
        wire.command("PING")
    assert time.monotonic() - started < 0.2


def test_a_failure_costs_no_place_in_the_pool(make_client: MakeClient, own_valkey: OwnValkey) -> None:
    client = make_client(redis_pool_size=2)
    wire = Wire(client)
    own_valkey.kill()
    for _ in range(5):
        with pytest.raises(redis.ConnectionError):
            wire.command("PING")
    own_valkey.start()
    pool: Any = pool_of(client)
    for connection in [pool.get_connection(), pool.get_connection()]:
        pool.release(connection)
    assert wire.command("PING")


def test_an_idle_connection_is_proved_before_it_is_used(client: redis.Redis, wire: Wire) -> None:
    def pings() -> int:
        return int(client.info("commandstats").get("cmdstat_ping", {"calls": 0})["calls"])

    before = pings()
    wire.command("GET", "key")
    pool: Any = pool_of(client)
    connection = pool.get_connection()
    connection.next_health_check = 0
    pool.release(connection)
    wire.command("GET", "key")
    assert pings() == before + 1


# Python 3.12 warns of fork wherever a thread runs, as under xdist; here the child only uses the wire.
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_has_connections_of_its_own(client: redis.Redis, wire: Wire) -> None:
    client.mset({"parent": "of the parent", "child": "of the child"})
    number = wire.command("CLIENT", "ID")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover - coverage ends with the child
        try:
            same = wire.command("CLIENT", "ID") == number
            answers = {wire.command("GET", "child") for _ in range(200)}
            os.write(writer, b"good" if answers == {b"of the child"} and not same else b"bad")
        finally:
            os._exit(0)
    assert {wire.command("GET", "parent") for _ in range(200)} == {b"of the parent"}
    os.waitpid(child, 0)
    assert os.read(reader, 10) == b"good"
    os.close(reader)
    os.close(writer)
    assert wire.command("CLIENT", "ID") == number
