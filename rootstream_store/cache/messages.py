"""Messages that must arrive, as data: one script writes them to a capped Redis stream and wakes its readers.

The id of a message is `<milliseconds of the server's clock>-<number>`. Numbers follow one another without a
hole, so that a reader sees from the ids alone that something is missing between two of them. A stream that
begins anew, because Redis came back empty, begins with a number above all that were there before it.

The states of streams are in the slot of the messages: a state and the message of its change are one step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import msgspec

from rootstream_store.cache import keys
from rootstream_store.cache._encode import encode
from rootstream_store.cache.wire import Ask, Script
from rootstream_store.errors import InvalidInput

__all__ = [
    "LONGEST_MESSAGE",
    "LOST",
    "MOST_STATE_BYTES",
    "MOST_STATE_FIELDS",
    "Announce",
    "Limits",
    "StateChange",
    "WriteAsk",
    "write",
]

T = TypeVar("T")

LONGEST_MESSAGE: Final = 65_536
"""Bytes of one message as JSON."""
MOST_STATE_FIELDS: Final = 256
"""Fields of one state."""
MOST_STATE_BYTES: Final = 65_536
"""Bytes of one state: names and values as JSON."""
LOST: Final = "live.lost"
"""Topic of a message that tells of messages that could not be published."""


class Limits(msgspec.Struct, frozen=True):
    """How much of the messages is kept."""

    count: int = 100_000
    """About so many: Redis drops them by blocks of some hundred at most."""
    age: float = 86_400.0
    """Seconds; 0: no limit."""


class StateChange(msgspec.Struct, frozen=True):
    """A change of a state, told by a message. Made by `rootstream_store.live`, which checks it."""

    key: str
    expected: str
    """The version that the state must have, and behind a "-" its epoch if that counts too. "": any."""
    epoch: str
    """What tells this life of the state from others, if the change begins one."""
    ttl: float
    """Seconds that the state lives after this change."""
    end: bytes
    """The rest of the message, behind epoch and version."""
    changes: dict[str, bytes] | None
    """Values as JSON by name. None: the state is deleted."""
    removed: tuple[str, ...] = ()


class Announce(msgspec.Struct, frozen=True):
    """Add a message to those that readers get, and wake them; with `state`, in one step with that change.

    `soon`: a thread sends it, together with others, and the caller does not wait for a round trip; their
    order is kept. Raises InvalidInput.
    """

    topic: str
    payload: bytes
    """JSON; with a `state` only the beginning of an object, without what the change adds."""
    state: StateChange | None = None
    soon: bool = False

    def __post_init__(self) -> None:
        encode(self.topic, "topic")
        if not isinstance(self.payload, bytes):
            raise InvalidInput("payload", f"must be bytes, not {type(self.payload).__name__}")
        if self.size > LONGEST_MESSAGE:
            raise InvalidInput("message", f"must have at most {LONGEST_MESSAGE} bytes as JSON", self.size)

    @property
    def size(self) -> int:
        """Bytes of the message."""
        return len(self.payload) + (0 if self.state is None else len(self.state.end))


class WriteAsk(Ask[T]):
    """Writes one message at once, for a caller who wants to know what became of it. The cache adds its
    limits."""

    def __init__(self, announce: Announce, read: Callable[[Any], T]) -> None:
        self._items = [announce]
        super().__init__(WRITE, *write(self._items, Limits()), read)

    def within(self, limits: Limits) -> Ask[T]:
        """The same with these limits."""
        return Ask(WRITE, *write(self._items, limits), self.read)


def write(items: Sequence[Announce], limits: Limits) -> tuple[list[str], list[bytes | str | int]]:
    """Keys and arguments of WRITE for these messages, in this order."""
    names = [keys.MESSAGES, keys.MESSAGES_START]
    arguments: list[bytes | str | int] = [limits.count, int(limits.age * 1000), len(items)]
    for item in items:
        arguments += (item.topic, item.payload)
        state = item.state
        if state is None:
            arguments.append(0)
            continue
        names.append(state.key)
        arguments += (len(names), state.expected, state.epoch)
        arguments += (int(state.ttl * 1000), state.end)
        if state.changes is None:
            arguments.append(-1)
            continue
        arguments.append(len(state.changes))
        for name, value in state.changes.items():
            arguments += (f":{name}", value)
        arguments.append(len(state.removed))
        arguments += [f":{name}" for name in state.removed]
    return names, arguments


WRITE: Final = Script(f"""\
-- Add messages to the stream, each with its change of a state, and wake the readers once.
-- KEYS: the stream, the number it began with, then one state for each change.
-- ARGV: messages kept, milliseconds kept, how many; then of each: topic, payload, which key is its state (0:
-- none), and with a state: expected version-epoch ('': any), epoch, milliseconds to live, end of the payload,
-- number of fields (-1: delete), names and values, number of removed fields, names.
-- Answers of each: its id, or (1 done, 0 other version, -1 too large; version, epoch).
local most_fields, most_bytes = {MOST_STATE_FIELDS}, {MOST_STATE_BYTES}
local function whole(number) return string.format('%.0f', number) end

local clock = redis.call('TIME')
local ms = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local number
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if newest then
  local then_ms, then_number = string.match(newest[1], '(%d+)-(%d+)')
  ms, number = math.max(ms, tonumber(then_ms)), tonumber(then_number)
else
  number = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
end
local is_new, last = not newest, nil
local time = whole(ms) .. '-'

local function emit(topic, payload)
  if is_new then redis.call('SET', KEYS[2], whole(number + 1)) is_new = false end
  number = number + 1
  last = time .. whole(number)
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], last, 't', topic, 'm', payload)
  return last
end

local at = 4
local function take()
  at = at + 1
  return ARGV[at - 1]
end

local function change(topic, payload, key)
  local expected, epoch, ttl, tail, count = take(), take(), take(), take(), tonumber(take())
  local meta = redis.call('HMGET', key, 'v', 'e', 'b')
  local version, bytes = tonumber(meta[1] or 0), tonumber(meta[3] or 0)
  local fits = true
  if expected ~= '' then
    local number, life = string.match(expected, '^(%d+)%-?(.*)$')
    fits = tonumber(number) == version and (life == '' or life == meta[2])
  end
  if count < 0 then
    if not fits then return {{0, version, meta[2] or ''}} end
    if not meta[1] then return {{1, 0, ''}} end
    redis.call('DEL', key)
    emit(topic, payload .. ',"epoch":"' .. meta[2] .. '","version":' .. whole(version) .. tail)
    return {{1, version, meta[2]}}
  end
  local set, first = {{}}, at
  at = at + 2 * count
  for i = first, at - 1 do set[#set + 1] = ARGV[i] end
  local removed = {{}}
  for i = 1, tonumber(take()) do removed[i] = take() end
  if not fits then return {{0, version, meta[2] or ''}} end

  local more = 0
  for i = 1, #set, 2 do
    local before = redis.call('HSTRLEN', key, set[i])
    bytes = bytes + #set[i + 1] - before
    if before == 0 then
      more = more + 1
      bytes = bytes + #set[i] - 1
    end
  end
  local gone = {{}}
  for i = 1, #removed do
    local before = redis.call('HSTRLEN', key, removed[i])
    if before > 0 then
      gone[#gone + 1] = removed[i]
      more = more - 1
      bytes = bytes - before - #removed[i] + 1
    end
  end
  if more > 0 and meta[1] then more = more + redis.call('HLEN', key) - 3 end
  if more > most_fields or bytes > most_bytes then return {{-1, version, meta[2] or ''}} end

  epoch = meta[2] or epoch
  version = version + 1
  redis.call('HSET', key, 'v', whole(version), 'e', epoch, 'b', whole(bytes), unpack(set))
  if #gone > 0 then redis.call('HDEL', key, unpack(gone)) end
  redis.call('PEXPIRE', key, ttl)
  emit(topic, payload .. ',"epoch":"' .. epoch .. '","version":' .. whole(version) .. tail)
  return {{1, version, epoch}}
end

local answers = {{}}
for i = 1, tonumber(ARGV[3]) do
  local topic, payload, state = take(), take(), tonumber(take())
  if state == 0 then
    answers[i] = emit(topic, payload)
  else
    answers[i] = change(topic, payload, KEYS[state])
  end
end
if last then
  if ARGV[2] ~= '0' then
    redis.call('XTRIM', KEYS[1], 'MINID', '~', whole(ms - tonumber(ARGV[2])))
  end
  redis.call('PUBLISH', KEYS[1], last)
end
return answers
""")
