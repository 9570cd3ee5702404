from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import redis

from rootstream_store.cache.client import connect, describe_error, pool_of, safe_url
from rootstream_store.errors import SettingsError
from rootstream_store.settings import Settings

from .conftest import OwnValkey


def settings(url: str, **values: Any) -> Settings:
    return Settings(database_url="postgresql:///none", redis_url=url, **values)


def any_pool(client: redis.Redis) -> Any:
    """The client's pool, of which redis-py types hardly anything."""
    return pool_of(client)


@pytest.fixture
def client(own_valkey: OwnValkey) -> Iterator[redis.Redis]:
    made = connect(settings(own_valkey.url, application_name="live desk\n1"))
    yield made
    pool_of(made).close_idle()


def test_a_server_that_hangs_up_after_the_greeting_is_a_lost_connection() -> None:
    """Not an AttributeError, which redis-py makes of it on a unix socket where it counts its errors."""
    with TemporaryDirectory(prefix="rsv-") as directory, socket.socket(socket.AF_UNIX) as listener:
        path = f"{directory}/s"
        listener.bind(path)
        listener.listen()

        def greet() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"%1\r\n$5\r\nproto\r\n:3\r\n")

        greeting = threading.Thread(target=greet)
        greeting.start()
        with pytest.raises(redis.ConnectionError):
            connect(settings(f"unix://{path}")).get("key")
        greeting.join()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:6379",
        "http://:s3cret@localhost",
        "redis://:s3cret@localhost:port",
        "redis://:s3cret@localhost:6379/db0",
        "redis://:s3cret@localhost:6379/0/1",
        "redis://:s3/cret#s3cret?@localhost:6379",
        "redis://user:s3@s3cret@localhost:99999",
        "redis://:s3cret@localhost/0?no_such_option=1",
        "redis://:s3cret@localhost/0?socket_timeout=soon",
        "redis://localhost/0?password=s3cret&nonsense=1",
        "redis://[::1:s3cret@localhost",
        "unix://:s3cret@",
        f"redis://:s3cret@{'l' * 64}.example",
        "redis://:s3cret@a..example",
    ],
)
def test_a_url_that_cannot_work_is_named_without_its_password(url: str) -> None:
    with pytest.raises(SettingsError, match="redis_url") as caught:
        connect(settings(url))
    assert "s3cret" not in str(caught.value)
    assert "cret" not in repr(caught.value.__cause__)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://host:6379/1", "redis://host:6379/1"),
        ("redis://user:pass@host/1", "redis://user:***@host/1"),
        ("rediss://:p%40ss@host", "rediss://:***@host"),
        ("redis://:p/a@s#s@host", "redis://:***@host"),
        ("redis://forgotten-colon@host", "redis://***@host"),
        ("unix:///run/redis?db=1&password=abc&x=y", "unix:///run/redis?db=1&password=***&x=y"),
    ],
)
def test_what_is_shown_of_a_url(url: str, shown: str) -> None:
    assert safe_url(url) == shown


def test_no_place_to_connect_to_is_named() -> None:
    with pytest.raises(SettingsError, match="redis_url is missing"):
        connect(Settings(database_url="postgresql:///none"))


def test_a_pool_of_none_is_refused() -> None:
    with pytest.raises(SettingsError, match="redis_pool_size"):
        connect(settings("redis://localhost", redis_pool_size=0))


def test_nothing_is_connected_before_the_first_command() -> None:
    started = time.monotonic()
    made = connect(settings("redis://192.0.2.1:6379"))
    assert time.monotonic() - started < 0.1
    assert "192.0.2.1" in repr(made)


def test_the_connection_has_a_name_that_redis_accepts_and_answers_in_bytes(client: redis.Redis) -> None:
    assert client.client_getname() == b"live-desk-1"
    client.set("key", "välue")
    assert client.get("key") == "välue".encode()


def test_a_frozen_server_costs_one_timeout_with_old_and_new_connections(
    client: redis.Redis, own_valkey: OwnValkey
) -> None:
    client.ping()
    own_valkey.freeze()
    for _ in range(2):
        started = time.monotonic()
        with pytest.raises(redis.TimeoutError):
            client.get("key")
        assert time.monotonic() - started < 0.5


def test_a_restarted_server_is_not_an_error(client: redis.Redis, own_valkey: OwnValkey) -> None:
    held = [any_pool(client).get_connection() for _ in range(5)]
    for connection in held:
        any_pool(client).release(connection)
    own_valkey.kill()
    own_valkey.start()
    # Each pooled connection is dead now. INCR, since it must not be sent twice either.
    assert [client.incr("count") for _ in range(10)] == list(range(1, 11))


def test_a_lost_reply_does_not_count_twice(own_valkey: OwnValkey, tmp_path: Path) -> None:
    lost = threading.Event()
    proxy_path = own_valkey.directory / "p"

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            with near, socket.socket(socket.AF_UNIX) as far:
                far.connect(str(own_valkey.socket))
                while request := near.recv(65536):
                    far.sendall(request)
                    reply = far.recv(65536)
                    if b"INCR" in request:
                        lost.set()
                        break
                    near.sendall(reply)

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(proxy_path))
    listener.listen()
    thread = threading.Thread(target=serve, args=(listener,))
    thread.start()
    client = connect(settings(f"unix://{proxy_path}"))
    try:
        with pytest.raises(redis.ConnectionError):
            client.incr("count")
        assert lost.is_set()
        assert client.get("count") == b"1"
    finally:
        pool_of(client).close_idle()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def test_a_full_pool_waits_for_a_connection_and_no_longer_than_the_timeout(own_valkey: OwnValkey) -> None:
    client = connect(settings(own_valkey.url, redis_pool_size=1))
    connection = any_pool(client).get_connection()
    started = time.monotonic()
    with pytest.raises(redis.ConnectionError):
        client.ping()
    assert 0.2 < time.monotonic() - started < 0.5
    timer = threading.Timer(0.05, any_pool(client).release, (connection,))
    timer.start()
    assert client.ping()
    timer.join()
    pool_of(client).close_idle()


def test_transactions_of_two_threads_do_not_mix(client: redis.Redis) -> None:
    # With one shared connection a SET of another thread would be queued, and lost on DISCARD.
    with client.pipeline(transaction=True) as pipe:
        watch: Callable[..., Any] = pipe.watch
        watch("key")
        pipe.multi()
        pipe.set("inside", 1)
        thread = threading.Thread(target=lambda: client.set("outside", 1))
        thread.start()
        thread.join(5)
        pipe.reset()
    assert client.get("outside") == b"1"
    assert client.get("inside") is None


@pytest.mark.parametrize("key", ["nul\0inside", "two words", "ключ-🎥", "\r\nSET x y\r\n", "", "\x7f\xff"])
def test_keys_are_kept_whole(client: redis.Redis, key: str) -> None:
    client.set(key, "value")
    client.set("nul", "other")
    assert client.get(key) == b"value"
    assert key.encode() in client.keys("*")


def test_closing_idle_connections_keeps_those_in_use(
    client: redis.Redis, own_valkey: OwnValkey, until: Callable[..., None]
) -> None:
    used, idle = any_pool(client).get_connection(), any_pool(client).get_connection()
    any_pool(client).release(idle)
    pool_of(client).close_idle()
    assert used.is_connected
    assert not idle.is_connected
    any_pool(client).release(used)
    assert client.ping()


def test_an_error_reply_is_described_without_its_arguments() -> None:
    assert describe_error(redis.ResponseError("ERR wrong 'token'")) == "ResponseError ERR"
    assert describe_error(redis.ResponseError("all kinds of text")) == "ResponseError"
    told = describe_error(redis.ConnectionError("p@ss at\n host"), "redis://:p%40ss@host")
    assert told == "ConnectionError: *** at host"
