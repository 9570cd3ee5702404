"""What a committed write does on Redis, as data, so that it can be kept until the commit and dropped on
rollback.

Effects are best effort: PostgreSQL has the truth, so a failure is counted and logged, never raised. What
could never be sent is refused when the effect is made, before the commit: an error after it would make the
caller apply the change twice.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import msgspec
import redis

from rootstream_store.cache._encode import encode
from rootstream_store.cache.breaker import UNREACHED, Breaker
from rootstream_store.cache.messages import WRITE, Announce, Limits, write
from rootstream_store.cache.wire import Command, Script, Wire
from rootstream_store.errors import InvalidInput

__all__ = [
    "CHANGES",
    "Announce",
    "Delete",
    "Effect",
    "Expire",
    "Invalidate",
    "Publish",
    "SetValue",
    "Tell",
    "Wake",
    "encode",
    "milliseconds",
    "run_effects",
]


_log = logging.getLogger("rootstream_store.cache")
_LIMITS = Limits()
_LONGEST_TTL = 1e12
"""Seconds. Redis refuses what is beyond its 64-bit milliseconds."""


class Publish(msgspec.Struct, frozen=True):
    """Send `payload` to the subscribers of `channel`. Raises InvalidInput."""

    channel: str
    payload: bytes | str

    def __post_init__(self) -> None:
        encode(self.channel, "channel")
        if not isinstance(self.payload, bytes):
            encode(self.payload, "payload")


class Wake(msgspec.Struct, frozen=True):
    """Tell the subscribers of `channel` soon that there is something new. Costs the caller no round trip: a
    thread sends it, and of several in a few milliseconds the last only. Raises InvalidInput."""

    channel: str
    payload: int
    """What the message says, in decimal: a hint of how far it is worth to look."""

    def __post_init__(self) -> None:
        if type(self.channel) is not str or not self.channel.isascii():
            encode(self.channel, "channel")
        if type(self.payload) is not int:
            raise InvalidInput("payload", f"must be an integer, not {type(self.payload).__name__}")


class Invalidate(msgspec.Struct, frozen=True):
    """Remove a key of the lease cache. One that could not be removed is remembered and removed before the
    next hit. Raises InvalidInput."""

    key: str

    def __post_init__(self) -> None:
        encode(self.key, "key")


class SetValue(msgspec.Struct, frozen=True):
    """Set a plain key, not one of the lease cache. An integer has 64 bits. `ttl` in seconds, above 0; None:
    it does not expire. Raises InvalidInput."""

    key: str
    value: bytes | str | int
    ttl: float | None

    def __post_init__(self) -> None:
        encode(self.key, "key")
        _value(self.value)
        if self.ttl is not None:
            milliseconds(self.ttl)


class Delete(msgspec.Struct, frozen=True):
    """Remove a plain key, if Redis can be reached. Raises InvalidInput."""

    key: str

    def __post_init__(self) -> None:
        encode(self.key, "key")


class Expire(msgspec.Struct, frozen=True):
    """Have a plain key end in `ttl` seconds, above 0, if it is there. Raises InvalidInput."""

    key: str
    ttl: float

    def __post_init__(self) -> None:
        encode(self.key, "key")
        milliseconds(self.ttl)


class Tell(msgspec.Struct, frozen=True):
    """Run a script, if Redis can be reached. Its keys must be in one slot of a cluster."""

    script: Script
    keys: tuple[str, ...]
    arguments: tuple[str | int, ...]


Effect = Publish | Wake | Invalidate | SetValue | Delete | Expire | Tell | Announce

CHANGES = Invalidate | SetValue | Delete | Expire
"""Those that change a key, for isinstance."""
_Plain = Publish | Wake | Invalidate | SetValue | Delete | Expire | Tell


def run_effects(
    wire: Wire, breaker: Breaker, effects: Sequence[Effect], limits: Limits = _LIMITS
) -> tuple[Effect, ...]:
    """Run the effects in one round trip and return those that are not known to have happened.

    Removals from the cache go first, so that whoever is woken by a message reads what is new; the rest keeps
    its order, but for messages that must arrive: they are one script, and come last. Never raises: the
    changes before it are committed.
    """
    failed = [effect for effect in effects if not isinstance(effect, Effect)]
    for stranger in failed:
        _log.error("not an effect, so nothing was sent for it: %s", type(stranger).__name__)
    plain = [effect for effect in effects if isinstance(effect, _Plain)]
    messages = [effect for effect in effects if isinstance(effect, Announce)]
    ordered: list[_Plain] = sorted(plain, key=lambda effect: not isinstance(effect, Invalidate))
    commands = [_command(effect) for effect in ordered]
    if messages:
        names, arguments = write(messages, limits)
        commands.append(("EVALSHA", WRITE.sha, len(names), *names, *arguments))
    if not commands:
        return tuple(failed)

    replies = breaker.attempt(lambda: wire.commands(commands))
    if replies is UNREACHED:
        return (*failed, *ordered, *messages)
    for effect, reply in zip(ordered, replies, strict=False):
        if isinstance(reply, redis.RedisError):
            breaker.note_refusal(reply)
            failed.append(effect)
    if messages:
        reply = replies[-1]
        if isinstance(reply, redis.exceptions.NoScriptError):
            reply = breaker.attempt(lambda: wire.script(WRITE, names, arguments))
        elif isinstance(reply, redis.RedisError):
            breaker.note_refusal(reply)
        if reply is UNREACHED or isinstance(reply, redis.RedisError):
            failed.extend(messages)
    return tuple(failed)


def milliseconds(ttl: float, field: str = "ttl") -> int:
    """A TTL in seconds as whole milliseconds, at least 1. Raises InvalidInput."""
    if isinstance(ttl, bool) or not isinstance(ttl, int | float):
        raise InvalidInput(field, f"must be a number of seconds, not {type(ttl).__name__}")
    if not 0 < ttl <= _LONGEST_TTL:  # nan too
        shown = ttl if isinstance(ttl, float) else None  # Python refuses to write an integer that is too long
        raise InvalidInput(
            field, f"must be a number of seconds above 0 and at most {_LONGEST_TTL:.0f}", shown
        )
    return max(1, int(ttl * 1000))


def _command(effect: _Plain) -> Command:
    match effect:
        case Publish(channel, payload):
            return (
                "PUBLISH",
                encode(channel, "channel"),
                payload if isinstance(payload, bytes) else encode(payload, "payload"),
            )
        case Wake(channel, payload):
            return "PUBLISH", encode(channel, "channel"), payload
        case Invalidate(key) | Delete(key):
            return "UNLINK", encode(key, "key")
        case Expire(key, ttl):
            return "PEXPIRE", encode(key, "key"), milliseconds(ttl)
        case Tell(script, names, arguments):
            # In full: an answer that the script is not known would come too late.
            return "EVAL", script.source, len(names), *names, *arguments
        case SetValue(key, value, ttl):
            setting = "SET", encode(key, "key"), _value(value)
            return setting if ttl is None else (*setting, "PX", milliseconds(ttl))


def _value(value: bytes | str | int) -> bytes | int:
    if isinstance(value, str):
        return encode(value, "value")
    if isinstance(value, bool) or not isinstance(value, bytes | int):
        raise InvalidInput("value", f"must be bytes, text or an integer, not {type(value).__name__}")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise InvalidInput("value", "must be an integer of at most 64 bits")
    return value
