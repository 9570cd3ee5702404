"""The counters of viewers in Redis: their Lua scripts, and the calls of them as data. No I/O.

Of each stream there is, all in one slot of a cluster (see keys.viewer_keys, in this order):

1. the open session, an entry of the lease cache: b"v" and the JSON of `OnAir`. Only the cache writes it, but
   for the marker of a stop. So what is counted is as sure to be of the session on air as the cache is never
   stale.
2. the counter, a hash: `session` and `epoch` (of what, and since which microsecond), `joined` since then,
   `peak`, `unique` (what was flushed before), `reported` (the sum of 6) and `next` (when the first of 6
   expires), `fresh` (until when no key needs a new lifetime). It only grows and reading changes nothing, so
   that a flush may crash anywhere and be repeated.
3. who was seen, a sorted set: viewer → when it counts as gone, in milliseconds of the server's clock.
4. a HyperLogLog of all who came.
5. the plain number, which old readers GET.
6. what sources have told, a hash: source → number:when it expires.

Where the counter is of another session, or gone, it begins anew from what PostgreSQL has.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final, Literal

import msgspec

from rootstream_store.cache import UNREACHED, Ask, Script, Tell, Unreached, keys
from rootstream_store.records import ViewerCount, ViewerFigures

__all__ = [
    "Counted",
    "OnAir",
    "ask_close",
    "ask_counted",
    "ask_figures",
    "ask_leave",
    "ask_report",
    "ask_seen",
    "forget",
]


class OnAir(msgspec.Struct, frozen=True):
    """The open session of a stream. The scripts read its JSON, `id` first."""

    id: int
    peak_viewers: int
    unique_viewers: int
    viewers_epoch: int


class Counted(msgspec.Struct, frozen=True):
    """A counter as it was read. `epoch` and `joined` together are the id of its flush."""

    session_id: int
    epoch: int
    joined: int
    peak: int
    unique: int
    current: int


_LIFETIME: Final = 2 * int(keys.VIEWERS_TTL)
"""Seconds that a counter stays when nothing happens: longer than any cached answer which session is open,
from whose peak a new one begins."""
_RENEW_AFTER: Final = 60_000
"""Milliseconds between renewals of the lifetimes, which no call needs to make each time."""

_TOP = f"""\
local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000), time[1] * 1000000 + time[2]
end
-- The session on air: its id, or false where the cache does not know it.
local function on_air()
  local entry = redis.call('GET', KEYS[1])
  return entry and string.match(entry, '^v{{"id":(%d+)') or false, entry
end
-- What sources told and did not take back in time; without those that have expired.
local function reported(now)
  local told, sum, first = redis.call('HGETALL', KEYS[6]), 0, 0
  for i = 1, #told, 2 do
    local number, expires = string.match(told[i + 1], '(%d+):(%d+)')
    expires = tonumber(expires)
    if expires <= now then
      redis.call('HDEL', KEYS[6], told[i])
    else
      sum = sum + number
      if first == 0 or expires < first then first = expires end
    end
  end
  redis.call('HSET', KEYS[2], 'reported', sum, 'next', first)
  return sum
end
-- The same, from what is kept of it while nothing has expired.
local function others(sum, first, now)
  sum = tonumber(sum or 0)
  if sum > 0 and tonumber(first) <= now then sum = reported(now) end
  return sum
end
local function renew(now)
  for i = 2, 6 do if i ~= 5 then redis.call('EXPIRE', KEYS[i], {_LIFETIME}) end end
  redis.call('HSET', KEYS[2], 'fresh', now + {_RENEW_AFTER})
end
local function begin(session, entry, now, micros)
  local known = cjson.decode(string.sub(entry, 2))
  local epoch = math.max(micros, known.viewers_epoch + 1)
  redis.call('UNLINK', KEYS[2], KEYS[3], KEYS[4], KEYS[6])
  redis.call('HSET', KEYS[2], 'session', session, 'epoch', string.format('%.0f', epoch), 'joined', 0,
    'peak', known.peak_viewers, 'unique', known.unique_viewers, 'reported', 0, 'next', 0, 'fresh', 0)
  return {{session, 0, known.peak_viewers, 0, 0, 0}}
end
local FIELDS = {{'session', 'joined', 'peak', 'reported', 'next', 'fresh'}}
"""

_SEEN = Script(
    _TOP
    + f"""\
-- A viewer is there: (viewer, milliseconds until it counts as gone, 1 for a join and 0 for a heartbeat)
-- -> how many watch, and whether it is new; nothing: the session on air is not known.
local session, entry = on_air()
if not session then return false end
local now, micros = clock()
local is = redis.call('HMGET', KEYS[2], unpack(FIELDS))
if is[1] ~= session then is = begin(session, entry, now, micros) end
local gone = redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now)
local came = redis.call('ZADD', KEYS[3], now + ARGV[2], ARGV[1])
local current = redis.call('ZCARD', KEYS[3]) + others(is[4], is[5], now)
if came == 1 then
  redis.call('PFADD', KEYS[4], ARGV[1])
  redis.call('HSET', KEYS[2], 'joined', is[2] + ARGV[3], 'peak', math.max(is[3], current))
end
local stale = now > tonumber(is[6])
if stale then renew(now) end
if stale or came == 1 or gone > 0 then redis.call('SET', KEYS[5], current, 'EX', {keys.VIEWERS_TTL:.0f}) end
return {{current, came}}
"""
)

_LEAVE = Script(
    _TOP
    + f"""\
-- A viewer has gone: (viewer) -> how many watch, and whether it was there.
local now = clock()
local is = redis.call('HMGET', KEYS[2], 'reported', 'next')
local gone = redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now)
local left = redis.call('ZREM', KEYS[3], ARGV[1])
local current = redis.call('ZCARD', KEYS[3]) + others(is[1], is[2], now)
-- Not where it is not: the stream may have ended.
if left + gone > 0 then redis.call('SET', KEYS[5], current, 'EX', {keys.VIEWERS_TTL:.0f}, 'XX') end
return {{current, left}}
"""
)

_REPORT = Script(
    _TOP
    + f"""\
-- A source tells how many it serves: (source, number, milliseconds until that is not true any more)
-- -> how many watch, and whether the number has changed; nothing: the session on air is not known.
local session, entry = on_air()
if not session then return false end
local now, micros = clock()
local is = redis.call('HMGET', KEYS[2], unpack(FIELDS))
if is[1] ~= session then is = begin(session, entry, now, micros) end
local before = reported(now)
if ARGV[2] == '0' then
  redis.call('HDEL', KEYS[6], ARGV[1])
else
  redis.call('HSET', KEYS[6], ARGV[1], string.format('%s:%.0f', ARGV[2], now + ARGV[3]))
end
local after = reported(now)
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now)
local current = redis.call('ZCARD', KEYS[3]) + after
redis.call('HSET', KEYS[2], 'peak', math.max(is[3], current))
renew(now)
redis.call('SET', KEYS[5], current, 'EX', {keys.VIEWERS_TTL:.0f})
return {{current, before ~= after and 1 or 0}}
"""
)

_READ = Script(
    _TOP
    + f"""\
-- Reads the counter, without those who are gone by now: ('peek', 'flush' or 'close', milliseconds of the
-- marker) -> session, epoch, joined, peak, unique, current, now; an empty answer: there is none; nothing:
-- 'peek' alone, the session on air is not known. 'flush' also renews the lifetimes. 'close' has nobody
-- counted from now on: the marker of the lease cache, that a write is under way.
local session = on_air()
if ARGV[1] == 'peek' and not session then return false end
if ARGV[1] == 'close' and redis.call('GET', KEYS[1]) ~= 'w' then
  redis.call('SET', KEYS[1], 'w', 'PX', ARGV[2])
end
local is = redis.call('HMGET', KEYS[2], 'session', 'epoch', 'joined', 'peak', 'unique', 'reported', 'next')
if not is[1] or (ARGV[1] == 'peek' and is[1] ~= session) then return {{}} end
local now = clock()
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now)
local current = redis.call('ZCARD', KEYS[3]) + others(is[6], is[7], now)
local unique = math.max(is[5], redis.call('PFCOUNT', KEYS[4]))
if ARGV[1] == 'flush' and is[1] == session then
  renew(now)
  redis.call('SET', KEYS[5], current, 'EX', {keys.VIEWERS_TTL:.0f})
end
return {{tonumber(is[1]), tonumber(is[2]), tonumber(is[3]), tonumber(is[4]), unique, current, now}}
"""
)

_FORGET = Script("""\
-- Removes all that is counted of a session, or of any: (session, or nothing)
local session = redis.call('HGET', KEYS[1], 'session')
if ARGV[1] ~= '' and session and session ~= ARGV[1] then return 0 end
return redis.call('UNLINK', unpack(KEYS))
""")


def ask_seen(stream_id: int, viewer: str, expiry: int, joined: int) -> Ask[ViewerCount]:
    """A join (`joined` 1) or a heartbeat (0). `expiry` in milliseconds."""
    return Ask(_SEEN, keys.viewer_keys(stream_id), (viewer, expiry, joined), _count)


def ask_leave(stream_id: int, viewer: str) -> Ask[ViewerCount]:
    """A viewer who goes."""
    return Ask(_LEAVE, keys.viewer_keys(stream_id), (viewer,), _count)


def ask_report(stream_id: int, source: str, number: int, expiry: int) -> Ask[ViewerCount]:
    """A number that a source tells. `expiry` in milliseconds."""
    return Ask(_REPORT, keys.viewer_keys(stream_id), (source, number, expiry), _count)


def ask_figures(stream_id: int) -> Ask[ViewerFigures | None]:
    """The figures of the session on air. None: nothing of it is counted here."""

    def read(reply: Any) -> ViewerFigures | Literal[Unreached.UNREACHED] | None:
        if reply is None:
            return UNREACHED
        counted = _counted(reply)
        if counted is None:
            return None
        return ViewerFigures(
            stream_id=stream_id,
            session_id=counted.session_id,
            current=counted.current,
            peak=counted.peak,
            unique=counted.unique,
            as_of=datetime.fromtimestamp(reply[6] / 1000, UTC),
            is_from_redis=True,
        )

    return Ask(_READ, keys.viewer_keys(stream_id), ("peek", 0), read)


def ask_counted(stream_id: int) -> Ask[Counted | None]:
    """What there is to flush. None: nothing is counted."""
    return Ask(_READ, keys.viewer_keys(stream_id), ("flush", 0), _counted)


def ask_close(stream_id: int, marker: int) -> Ask[Counted | None]:
    """What there is to flush last of all. For `marker` milliseconds nobody is counted, until the cache is
    told that the session has ended."""
    return Ask(_READ, keys.viewer_keys(stream_id), ("close", marker), _counted)


def forget(stream_id: int, session_id: int | None) -> Tell:
    """The effect that removes what is counted of this session; None: of any. A later session's stays."""
    _, *rest = keys.viewer_keys(stream_id)
    return Tell(_FORGET, tuple(rest), ("" if session_id is None else session_id,))


def _count(reply: Any) -> ViewerCount | Literal[Unreached.UNREACHED]:
    if reply is None:
        return UNREACHED
    return ViewerCount(current=reply[0], is_change=reply[1] == 1, is_counted=True)


def _counted(reply: Any) -> Counted | None:
    return Counted(*reply[:6]) if reply else None
