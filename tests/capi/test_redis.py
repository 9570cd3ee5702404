"""Keys, hashes, lists and messages on Redis through C."""

from __future__ import annotations

import ctypes
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from ..waiting import until
from .binding import Failed, Native
from .header import constants


@pytest.fixture
def opened(database_url: str, redis_url: str, native: Native) -> Iterator[Any]:
    store = native.open(database_url, redis_url)
    yield store
    native.close(store)


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as plain:
        yield plain


def test_values_of_any_bytes(opened: Any, native: Native, client: redis.Redis) -> None:
    value = bytes(range(256))
    native.call("cache_set", opened, {"key": "k ä", "value": value, "ttl_ms": None})
    assert native.call("cache_get", opened, {"key": "k ä"}) == value == client.get("k ä")
    assert client.ttl("k ä") == -1
    native.call("cache_set", opened, {"key": "k ä", "value": b"", "ttl_ms": 50_000})
    assert native.call("cache_get", opened, {"key": "k ä"}) == b""
    assert 40 < client.ttl("k ä") <= 50
    assert native.call("cache_expire", opened, {"key": "k ä", "ttl_ms": 5_000}) is None
    assert client.ttl("k ä") <= 5
    assert native.call("cache_del", opened, {"key": "k ä"}) == 1
    assert native.call("cache_del", opened, {"key": "k ä"}) == 0
    assert native.call("cache_get", opened, {"key": "k ä"}) is None
    assert native.c.rss_cache_expire(opened, b"k", ctypes.c_int64(1)) == constants()["RSS_NOTHING"]


def test_counters_hashes_and_lists(opened: Any, native: Native) -> None:
    assert native.call("cache_incr", opened, {"key": "n", "by": 5}) == 5
    assert native.call("cache_incr", opened, {"key": "n", "by": -7}) == -2
    native.call("cache_hash_set", opened, {"key": "h", "field": "ä", "value": b"1"})
    native.call("cache_hash_set", opened, {"key": "h", "field": "b", "value": b"two"})
    assert native.call("cache_hash_get", opened, {"key": "h", "field": "ä"}) == b"1"
    assert native.call("cache_hash_get", opened, {"key": "h", "field": "c"}) is None
    assert json.loads(native.call("cache_hash_get_all", opened, {"key": "h"})) == {"ä": "1", "b": "two"}
    assert native.call("cache_hash_del", opened, {"key": "h", "field": "ä"}) == 1
    assert json.loads(native.call("cache_hash_get_all", opened, {"key": "none"})) == {}
    for number, value in enumerate((b"b", b"c"), 1):
        assert (
            native.call("cache_list_push", opened, {"key": "l", "value": value, "at_begin": False}) == number
        )
    assert native.call("cache_list_push", opened, {"key": "l", "value": b"a", "at_begin": True}) == 3
    assert json.loads(native.call("cache_list_range", opened, {"key": "l", "first": 0, "last": -1})) == [
        *"abc"
    ]
    assert native.call("cache_list_pop", opened, {"key": "l", "at_begin": True}) == b"a"
    assert native.call("cache_list_pop", opened, {"key": "l", "at_begin": False}) == b"c"
    assert native.call("cache_list_pop", opened, {"key": "none", "at_begin": False}) is None


@pytest.mark.parametrize(
    ("name", "values", "field"),
    [
        ("cache_get", {"key": None}, "key"),
        ("cache_get", {"key": b"\xff"}, "key"),
        ("cache_get", {"key": "list"}, "key"),
        ("cache_incr", {"key": "text", "by": 1}, "key"),
        ("cache_set", {"key": "k", "value": b"", "ttl_ms": 0}, "ttl_ms"),
        ("cache_set", {"key": "k", "value": b"", "ttl_ms": -1}, "ttl_ms"),
        ("cache_hash_get", {"key": "k", "field": None}, "field"),
        ("cache_list_range", {"key": "list", "first": 0, "last": -1}, "value"),
        ("publish", {"channel": None, "message": b""}, "channel"),
    ],
)
def test_what_cannot_be(
    opened: Any, native: Native, client: redis.Redis, name: str, values: dict[str, Any], field: str
) -> None:
    client.rpush("list", b"\xff")
    client.set("text", "x")
    with pytest.raises(Failed) as failed:
        native.call(name, opened, values)
    assert failed.value.code == constants()["RSS_E_INVALID_INPUT"]
    assert failed.value.details["field"] == field


def test_without_redis(database_url: str, native: Native) -> None:
    store = native.open(database_url, "")
    with pytest.raises(Failed) as failed:
        native.call("cache_get", store, {"key": "k"})
    assert failed.value.code == constants()["RSS_E_SETTINGS"]
    native.close(store)


def test_redis_that_is_away(database_url: str, native: Native) -> None:
    store = native.open(database_url, "redis://127.0.0.1:1")
    with pytest.raises(Failed) as failed:
        native.call("cache_get", store, {"key": "k"})
    assert failed.value.code == constants()["RSS_E_UNAVAILABLE"]
    assert failed.value.details["retryable"]
    native.close(store)


def test_messages(opened: Any, native: Native, client: redis.Redis) -> None:
    subscription = native.call("subscribe", opened, {"channel": "stream:*:events", "is_pattern": True})
    assert native.call("publish", opened, {"channel": "stream:7:events", "message": b"a\0b"}) == 1
    message, data = native.call("subscription_next", subscription, {"timeout_ms": 5000})
    assert message == {"is_gap": 0, "gap_seconds": None, "channel": "stream:7:events"}
    assert data == b"a\0b"
    assert native.call("subscription_next", subscription, {"timeout_ms": 0}) is None
    native.call("publish", opened, {"channel": "stream:7:events", "message": b""})
    # So long that no clock can count it: without limit.
    assert native.call("subscription_next", subscription, {"timeout_ms": 2**63 - 1})[1] == b""
    client.client_kill_filter(_type="pubsub")
    received = native.call("subscription_next", subscription, {"timeout_ms": 5000})
    assert received[0]["is_gap"] == 1
    assert received[0]["gap_seconds"] >= 0
    waiting = threading.Thread(target=_wait_until_closed, args=(native, subscription))
    waiting.start()
    native._check(native.c.rss_subscription_close(subscription))
    waiting.join(10)
    assert not waiting.is_alive()
    assert native.c.rss_subscription_close(subscription) == constants()["RSS_E_CLOSED"]


def _wait_until_closed(native: Native, subscription: Any) -> None:
    with pytest.raises(Failed) as failed:
        native.call("subscription_next", subscription, {"timeout_ms": -1})
    assert failed.value.code == constants()["RSS_E_CLOSED"]


def test_a_closed_store_ends_its_subscriptions(database_url: str, redis_url: str, native: Native) -> None:
    store = native.open(database_url, redis_url)
    subscription = native.call("subscribe", store, {"channel": "c", "is_pattern": False})
    waiting = threading.Thread(target=_wait_until_closed, args=(native, subscription))
    waiting.start()
    native.close(store)
    until(lambda: not waiting.is_alive(), "the waiting thread is woken")
    native._check(native.c.rss_subscription_close(subscription))
