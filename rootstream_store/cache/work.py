"""Lists of work on Redis, as scripts: what is ready, what is in whose hands until when, what was given up.

Each step is one script, so that a job is always in exactly one place. All keys of a queue have one hash tag.
The clock is the server's.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from rootstream_store.cache.wire import Ask, Script

__all__ = [
    "Given",
    "dead",
    "done",
    "drop",
    "extend",
    "failed",
    "put",
    "retry",
    "revive",
    "stats",
    "take",
    "waker",
]

_PARTS = ("ready", "leases", "payloads", "attempts", "holders", "errors", "dead")

_NAMES = """\
local ready, leases, payloads, attempts, holders, errors, dead = unpack(KEYS)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function give_up(id, why)
  redis.call('HDEL', holders, id)
  redis.call('HSET', errors, id, why)
  redis.call('ZADD', dead, now, id)
end
local function is_held(id, holder)
  return redis.call('HGET', holders, id) == holder
end
local function forget(id)
  redis.call('ZREM', leases, id)
  for _, hash in ipairs({payloads, attempts, holders, errors}) do redis.call('HDEL', hash, id) end
end
"""

PUT: Final = Script(
    _NAMES
    + """\
-- A new job, unless there is one of this id: (id, payload, channel) -> 1 or 0
if redis.call('HSETNX', payloads, ARGV[1], ARGV[2]) == 0 then return 0 end
redis.call('LPUSH', ready, ARGV[1])
redis.call('PUBLISH', ARGV[3], '1')
return 1
"""
)

TAKE: Final = Script(
    _NAMES
    + """\
-- The oldest job, for so many milliseconds, those first whose time has run out:
-- (holder, milliseconds, most attempts) -> {id, payload, attempt, 0}
-- or {false, false, 0, milliseconds until the next one runs out, or -1}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, 100)) do
  redis.call('ZREM', leases, id)
  local held = redis.call('HDEL', holders, id) == 1
  if held and tonumber(redis.call('HGET', attempts, id) or '0') >= tonumber(ARGV[3]) then
    give_up(id, 'its worker did not finish it in time')
  else
    redis.call('RPUSH', ready, id)
  end
end
while true do
  local id = redis.call('RPOP', ready)
  if not id then
    local next = redis.call('ZRANGE', leases, 0, 0, 'WITHSCORES')
    return {false, false, 0, next[2] and math.max(next[2] - now, 0) or -1}
  end
  local payload = redis.call('HGET', payloads, id)
  if payload then
    redis.call('ZADD', leases, now + ARGV[2], id)
    redis.call('HSET', holders, id, ARGV[1])
    return {id, payload, redis.call('HINCRBY', attempts, id, 1), 0}
  end
end
"""
)

DONE: Final = Script(
    _NAMES
    + """\
-- The job is finished: (id, holder) -> 1, or 0 when another has it or had it since
if not is_held(ARGV[1], ARGV[2]) then return 0 end
forget(ARGV[1])
return 1
"""
)

EXTEND: Final = Script(
    _NAMES
    + """\
-- So many milliseconds from now: (id, holder, milliseconds) -> 1 or 0
if not is_held(ARGV[1], ARGV[2]) then return 0 end
redis.call('ZADD', leases, now + ARGV[3], ARGV[1])
return 1
"""
)

RETRY: Final = Script(
    _NAMES
    + """\
-- Given back, to be handed out in so many milliseconds, or given up after the most attempts:
-- (id, holder, milliseconds, most attempts, why, channel) -> 1 or 0
local id = ARGV[1]
if not is_held(id, ARGV[2]) then return 0 end
if tonumber(redis.call('HGET', attempts, id)) >= tonumber(ARGV[4]) then
  redis.call('ZREM', leases, id)
  give_up(id, ARGV[5])
  return 1
end
redis.call('HDEL', holders, id)
redis.call('HSET', errors, id, ARGV[5])
if tonumber(ARGV[3]) > 0 then
  redis.call('ZADD', leases, now + ARGV[3], id)
else
  redis.call('ZREM', leases, id)
  redis.call('LPUSH', ready, id)
end
redis.call('PUBLISH', ARGV[6], '1')
return 1
"""
)

FAILED: Final = Script(
    _NAMES
    + """\
-- Given up: (id, holder, why) -> 1 or 0
if not is_held(ARGV[1], ARGV[2]) then return 0 end
redis.call('ZREM', leases, ARGV[1])
give_up(ARGV[1], ARGV[3])
return 1
"""
)

DEAD: Final = Script(
    _NAMES
    + """\
-- What was given up last: (how many) -> {{id, milliseconds since 1970, payload, attempts, why}, ...}
local found = {}
local listed = redis.call('ZREVRANGE', dead, 0, ARGV[1] - 1, 'WITHSCORES')
for i = 1, #listed, 2 do
  local id = listed[i]
  found[#found + 1] = {id, listed[i + 1], redis.call('HGET', payloads, id), redis.call('HGET', attempts, id),
    redis.call('HGET', errors, id)}
end
return found
"""
)

REVIVE: Final = Script(
    _NAMES
    + """\
-- Ready once more, its attempts forgotten: (id, channel) -> 1 or 0
if redis.call('ZREM', dead, ARGV[1]) == 0 then return 0 end
redis.call('HDEL', attempts, ARGV[1])
redis.call('LPUSH', ready, ARGV[1])
redis.call('PUBLISH', ARGV[2], '1')
return 1
"""
)

DROP: Final = Script(
    _NAMES
    + """\
-- One that was given up is gone: (id) -> 1 or 0
if redis.call('ZREM', dead, ARGV[1]) == 0 then return 0 end
forget(ARGV[1])
return 1
"""
)

STATS: Final = Script(
    _NAMES
    + """\
-- () -> {ready, in hands or delayed, in hands, given up}
return {redis.call('LLEN', ready), redis.call('ZCARD', leases), redis.call('HLEN', holders),
  redis.call('ZCARD', dead)}
"""
)


class Given(msgspec.Struct, frozen=True):
    """What `take` was answered."""

    id: str | None
    """None: nothing is ready."""
    payload: bytes
    attempt: int
    wait: float | None
    """Seconds until the next job's time runs out. None: there is none, or a job was given."""


def waker(name: str) -> str:
    """The channel that tells of new work."""
    return f"work:{name}:put"


def put(name: str, job: str, payload: bytes) -> Ask[bool]:
    """A new job; False when there was one of this id."""
    return _ask(PUT, name, [job, payload, waker(name)], bool)


def take(name: str, holder: str, lease: int, attempts: int) -> Ask[Given]:
    """A job for `lease` milliseconds."""

    def read(reply: Any) -> Given:
        job, payload, attempt, wait = reply
        if not job:
            return Given(None, b"", 0, None if wait < 0 else wait / 1000)
        return Given(job.decode(), payload, attempt, None)

    return _ask(TAKE, name, [holder, lease, attempts], read)


def done(name: str, job: str, holder: str) -> Ask[bool]:
    """Finished; False when the holder has it no more."""
    return _ask(DONE, name, [job, holder], bool)


def extend(name: str, job: str, holder: str, lease: int) -> Ask[bool]:
    """Held for so many milliseconds from now; False when the holder has it no more."""
    return _ask(EXTEND, name, [job, holder, lease], bool)


def retry(name: str, job: str, holder: str, delay: int, attempts: int, why: str) -> Ask[bool]:
    """Given back, for `delay` milliseconds to nobody; False when the holder has it no more."""
    return _ask(RETRY, name, [job, holder, delay, attempts, why.encode(errors="replace"), waker(name)], bool)


def failed(name: str, job: str, holder: str, why: str) -> Ask[bool]:
    """Given up; False when the holder has it no more."""
    return _ask(FAILED, name, [job, holder, why.encode(errors="replace")], bool)


def dead(name: str, limit: int) -> Ask[list[Any]]:
    """Given up, the newest first: id, milliseconds since 1970, payload, attempts, why."""
    return _ask(DEAD, name, [limit], list)


def revive(name: str, job: str) -> Ask[bool]:
    """One that was given up is ready again; False when there is none of this id."""
    return _ask(REVIVE, name, [job, waker(name)], bool)


def drop(name: str, job: str) -> Ask[bool]:
    """One that was given up is gone; False when there is none of this id."""
    return _ask(DROP, name, [job], bool)


def stats(name: str) -> Ask[list[int]]:
    """Ready, in hands or delayed, in hands, given up."""
    return _ask(STATS, name, [], list)


def _ask(script: Script, name: str, arguments: list[Any], read: Any) -> Ask[Any]:
    return Ask(script, [f"{{work:{name}}}:{part}" for part in _PARTS], arguments, read)
