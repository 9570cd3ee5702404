"""Keys and messages on Redis, each one command on a connection of the plain client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import msgspec
import redis

from rootstream_store.cache.client import connect, to_error
from rootstream_store.cache.effects import encode
from rootstream_store.cache.pubsub import Gap, Subscription
from rootstream_store.cache.wire import Wire
from rootstream_store.capi._entry import to_json
from rootstream_store.errors import InvalidInput, RootStreamError, StoreClosed
from rootstream_store.settings import Settings
from rootstream_store.store import Store

__all__ = [
    "HasRedis",
    "RedisHolder",
    "close_subscription",
    "delete",
    "expire",
    "get",
    "hash_delete",
    "hash_get",
    "hash_get_all",
    "hash_set",
    "incr",
    "is_connected",
    "list_pop",
    "list_push",
    "list_range",
    "next_message",
    "publish",
    "set_",
    "subscribe",
]


class RedisHolder:
    """A client of Redis alone, without a PostgreSQL: what the former C layer calls RedisClient."""

    def __init__(self, url: str) -> None:
        """Raises Unavailable or Timeout when the server does not answer."""
        self.url = url
        self._client: redis.Redis | None = connect(Settings(database_url="", redis_url=url))
        try:
            _ask(self, "PING")
        except BaseException:
            self.close()
            raise

    @property
    def redis(self) -> redis.Redis:
        """The plain client. Raises StoreClosed after close()."""
        if self._client is None:
            raise StoreClosed("the client of Redis is closed")
        return self._client

    def close(self) -> None:
        """Closes its connections; those in use when they are given back."""
        client, self._client = self._client, None
        if client is not None:
            client.close()


HasRedis = Store | RedisHolder

_LONGEST_MS = 10**12
"""A longer wait, of more than 30 years, is one without limit."""


class _Received(msgspec.Struct, frozen=True):
    """The fields of rss_message."""

    is_gap: bool
    gap_seconds: float | None
    channel: str


def get(holder: HasRedis, key: str) -> Any:
    """The bytes of a key, or None."""
    return _ask(holder, "GET", _key(key))


def set_(holder: HasRedis, key: str, value: bytes, ttl_ms: int | None) -> None:
    """`ttl_ms`: None: it does not expire."""
    if ttl_ms is None:
        _ask(holder, "SET", _key(key), value)
    else:
        _ask(holder, "SET", _key(key), value, "PX", _ttl(ttl_ms))


def delete(holder: HasRedis, key: str) -> Any:
    """1, or 0 when there was none."""
    return _ask(holder, "DEL", _key(key))


def expire(holder: HasRedis, key: str, ttl_ms: int) -> Any:
    """1, or None when there is no such key."""
    return int(_ask(holder, "PEXPIRE", _key(key), _ttl(ttl_ms))) or None


def incr(holder: HasRedis, key: str, by: int) -> Any:
    """The sum."""
    return _ask(holder, "INCRBY", _key(key), by)


def hash_get(holder: HasRedis, key: str, field: str) -> Any:
    """The bytes of a field, or None."""
    return _ask(holder, "HGET", _key(key), _name(field, "field"))


def hash_set(holder: HasRedis, key: str, field: str, value: bytes) -> None:
    """Sets one field."""
    _ask(holder, "HSET", _key(key), _name(field, "field"), value)


def hash_delete(holder: HasRedis, key: str, field: str) -> Any:
    """1, or 0 when there was none."""
    return _ask(holder, "HDEL", _key(key), _name(field, "field"))


def hash_get_all(holder: HasRedis, key: str) -> bytes:
    """The hash as a JSON object. Raises InvalidInput for bytes that are no UTF-8."""
    found: dict[bytes, bytes] = _ask(holder, "HGETALL", _key(key))
    return to_json({_text(name): _text(value) for name, value in found.items()})


def list_push(holder: HasRedis, key: str, value: bytes, at_begin: bool) -> Any:
    """How many the list has now."""
    return _ask(holder, "LPUSH" if at_begin else "RPUSH", _key(key), value)


def list_pop(holder: HasRedis, key: str, at_begin: bool) -> Any:
    """The bytes, or None."""
    return _ask(holder, "LPOP" if at_begin else "RPOP", _key(key))


def list_range(holder: HasRedis, key: str, first: int, last: int) -> bytes:
    """A JSON array. Raises InvalidInput for bytes that are no UTF-8."""
    return to_json([_text(value) for value in _ask(holder, "LRANGE", _key(key), first, last)])


def publish(holder: HasRedis, channel: str, message: bytes) -> Any:
    """How many got it."""
    return _ask(holder, "PUBLISH", _name(channel, "channel"), message)


def is_connected(holder: HasRedis) -> bool:
    """Whether Redis answers now."""
    try:
        _ask(holder, "PING")
    except RootStreamError:
        return False
    return True


def subscribe(store: Store, channel: str, is_pattern: bool) -> Subscription:
    """As Store.subscribe."""
    _name(channel, "channel")
    return store.subscribe(patterns=[channel]) if is_pattern else store.subscribe(channel)


def next_message(subscription: Subscription, timeout_ms: int) -> tuple[_Received, bytes] | None:
    """None when nothing came in time. Raises StoreClosed once the subscription was closed."""
    has_limit = 0 <= timeout_ms <= _LONGEST_MS
    received = subscription.get(timeout_ms / 1000 if has_limit else None)
    if received is None:
        if subscription.closed:
            raise StoreClosed("the subscription is closed")
        return None
    if isinstance(received, Gap):
        return _Received(is_gap=True, gap_seconds=received.seconds, channel=""), b""
    channel = received.channel.encode(errors="surrogateescape").decode(errors="replace")
    return _Received(is_gap=False, gap_seconds=None, channel=channel), received.data


def close_subscription(subscription: Subscription) -> None:
    """Wakes who waits for a message."""
    subscription.close()


_wires: WeakKeyDictionary[HasRedis, Wire] = WeakKeyDictionary()
"""Of those that were asked."""


def _ask(holder: HasRedis, *command: bytes | str | int) -> Any:
    client = holder.redis
    execute: Callable[..., Any] = client.execute_command
    if type(client) is redis.Redis:  # not of a cluster
        wire = _wires.get(holder)
        if wire is None:
            wire = _wires.setdefault(holder, Wire(client))
        execute = wire.command
    try:
        return execute(*command)
    except redis.ResponseError as error:
        text = str(error)
        if text.startswith("WRONGTYPE"):
            raise InvalidInput("key", "must hold a value of the type that this command is for") from error
        if "not an integer" in text or "overflow" in text:
            raise InvalidInput("key", "must hold an integer, also after the addition") from error
        raise _error(holder, error, command[0]) from error
    except redis.RedisError as error:
        raise _error(holder, error, command[0]) from error


def _error(holder: HasRedis, error: redis.RedisError, command: object) -> RootStreamError:
    url = holder.settings.redis_url if isinstance(holder, Store) else holder.url
    return to_error(error, f"{command} on Redis", url)


def _key(key: str) -> bytes:
    return _name(key, "key")


def _name(text: str | None, field: str) -> bytes:
    if text is None:
        raise InvalidInput(field, "must not be null")
    return encode(text, field)


def _ttl(ttl_ms: int) -> int:
    if not 0 < ttl_ms <= 10**15:
        raise InvalidInput("ttl_ms", "must be above 0 and at most 10^15", ttl_ms)
    return ttl_ms


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise InvalidInput("value", "must be UTF-8 to be told as JSON") from None
