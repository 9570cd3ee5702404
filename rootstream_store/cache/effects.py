"""What a committed write does on Redis, as data, so that it can be kept until the commit and dropped on
rollback.

Effects are best effort: PostgreSQL has the truth, so a failure is counted and logged, never raised.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import redis

from rootstream_store.cache.breaker import UNREACHED, Breaker
from rootstream_store.errors import InvalidInput

__all__ = ["Delete", "Effect", "Invalidate", "Publish", "SetValue", "run_effects"]


class Publish(msgspec.Struct, frozen=True):
    """Send `payload` to the subscribers of `channel`."""

    channel: str
    payload: bytes | str


class Invalidate(msgspec.Struct, frozen=True):
    """Remove a key of the lease cache. One that could not be removed is remembered and removed before the
    next hit."""

    key: str


class SetValue(msgspec.Struct, frozen=True):
    """Set a plain key, not one of the lease cache. `ttl` in seconds; None: it does not expire."""

    key: str
    value: bytes | str | int
    ttl: float | None


class Delete(msgspec.Struct, frozen=True):
    """Remove a plain key, if Redis can be reached."""

    key: str


Effect = Publish | Invalidate | SetValue | Delete


def run_effects(client: redis.Redis, breaker: Breaker, effects: Sequence[Effect]) -> tuple[Effect, ...]:
    """Run the effects in one round trip and return those that are not known to have happened.

    Removals from the cache go first, so that whoever is woken by a message reads what is new; the rest keeps
    its order. Raises InvalidInput for text that has no UTF-8 form or a TTL that is no time, before anything
    is sent.
    """
    ordered: list[Effect] = sorted(effects, key=lambda effect: not isinstance(effect, Invalidate))
    commands = [_command(effect) for effect in ordered]
    if not commands:
        return ()

    def send() -> list[object]:
        with client.pipeline(transaction=False) as pipe:
            queue: Callable[..., Any] = pipe.execute_command
            for command in commands:
                queue(*command)
            return pipe.execute(raise_on_error=False)

    replies = breaker.attempt(send)
    if replies is UNREACHED:
        return tuple(ordered)
    failed = []
    for effect, reply in zip(ordered, replies, strict=True):
        if isinstance(reply, redis.RedisError):
            breaker.note_refusal(reply)
            failed.append(effect)
    return tuple(failed)


def encode(text: str, field: str) -> bytes:
    """The bytes of a key or channel, whole: NUL, spaces and every character are kept. Raises InvalidInput."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise InvalidInput(
            field, "must be text that UTF-8 can hold (it has a lone surrogate)", text
        ) from None


def milliseconds(ttl: float, field: str = "ttl") -> int:
    """A TTL in seconds as whole milliseconds, at least 1. Raises InvalidInput."""
    if isinstance(ttl, bool) or not isinstance(ttl, int | float) or not math.isfinite(ttl) or ttl <= 0:
        raise InvalidInput(field, "must be a number of seconds above 0", ttl)
    return max(1, int(ttl * 1000))


def _command(effect: Effect) -> tuple[bytes | str | int, ...]:
    match effect:
        case Publish(channel, payload):
            return "PUBLISH", encode(channel, "channel"), _value(payload, "payload")
        case Invalidate(key) | Delete(key):
            return "UNLINK", encode(key, "key")
        case SetValue(key, value, ttl):
            setting = "SET", encode(key, "key"), _value(value, "value")
            return setting if ttl is None else (*setting, "PX", milliseconds(ttl))


def _value(value: bytes | str | int, field: str) -> bytes | int:
    if isinstance(value, str):
        return encode(value, field)
    if isinstance(value, bool) or not isinstance(value, bytes | int):
        raise InvalidInput(field, "must be bytes, text or an integer")
    return value
