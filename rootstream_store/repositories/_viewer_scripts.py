"""The counters of viewers in Redis: their Lua scripts, and the calls of them as data. No I/O.

Of each stream there is, all in one slot of a cluster (see keys.viewer_keys, in this order):

1. the open session, an entry of the lease cache: its head and the JSON of `OnAir`. Only the cache writes it,
   but for the marker of a stop. So what is counted is as sure to be of the session on air as the cache is
   never stale.
2. the counter, a hash: `session` and `epoch` (of what, and since which microsecond), `joined` since then,
   `peak`, `unique` (what was flushed before), `reported` (the sum of 6) and `wake`: before that, in
   milliseconds, nobody goes and nothing expires. It only grows and reading takes nothing away, so that a
   flush may crash anywhere and be repeated.
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
from rootstream_store.cache._entry import HEAD, Kind
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
_VALUE: Final = Kind.VALUE.value.decode()
_PAYLOAD: Final = HEAD + 1
"""Where the JSON of an entry begins, as Lua counts."""
_WAKE_AFTER: Final = 60_000
"""Milliseconds after which a call does what no call needs to do each time, as renewing the lifetimes."""
_EXACT_UP_TO: Final = 1000
"""Viewers up to whom the plain number is written at each change; where there are more, at each flush."""

_ON_AIR = f"""\
-- The last argument is the stamp of the server: what has another one may be of a session that has ended.
local entry = redis.call('GET', KEYS[1])
local session = entry and string.sub(entry, 1, {HEAD}) == '{_VALUE}' .. ARGV[#ARGV]
  and string.match(entry, '^{{"id":(%d+)', {_PAYLOAD})
"""

_TOP = f"""\
local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000), time[1] * 1000000 + time[2]
end
local function write_plain(current)
  redis.call('SET', KEYS[5], current, 'EX', {keys.VIEWERS_TTL:.0f})
end
-- Takes away who has gone and what sources told too long ago, renews the lifetimes, and puts on record when
-- it is to be done again: nobody goes and nothing expires before `wake`. How many are left.
local function tend(now)
  redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now)
  local wake = now + {_WAKE_AFTER}
  local oldest = redis.call('ZRANGE', KEYS[3], 0, 0, 'WITHSCORES')[2]
  if oldest then wake = math.min(wake, oldest) end
  local told, sum = redis.call('HGETALL', KEYS[6]), 0
  for i = 1, #told, 2 do
    local number, expires = string.match(told[i + 1], '(%d+):(%d+)')
    if tonumber(expires) <= now then
      redis.call('HDEL', KEYS[6], told[i])
    else
      sum = sum + number
      wake = math.min(wake, expires)
    end
  end
  redis.call('HSET', KEYS[2], 'reported', sum, 'wake', wake)
  for i = 2, 6 do if i ~= 5 then redis.call('EXPIRE', KEYS[i], {_LIFETIME}) end end
  return redis.call('ZCARD', KEYS[3]) + sum
end
-- A counter of this session that begins now from what the entry has of it.
local function begin(session, entry, micros)
  local known = cjson.decode(string.sub(entry, {_PAYLOAD}))
  local epoch = math.max(micros, known.viewers_epoch + 1)
  redis.call('UNLINK', KEYS[2], KEYS[3], KEYS[4], KEYS[6])
  redis.call('HSET', KEYS[2], 'session', session, 'epoch', string.format('%.0f', epoch), 'joined', 0,
    'peak', known.peak_viewers, 'unique', known.unique_viewers, 'reported', 0, 'wake', 0)
end
"""

# The one that runs for each sign of life of each viewer: what is needed seldom stands where it is seldom
# reached.
_SEEN = Script(f"""\
-- A viewer is there: (viewer, milliseconds until it counts as gone, 1 for a join and 0 for a heartbeat)
-- -> how many watch, times two, and 1 more if it is new; nothing: the session on air is not known.
{_ON_AIR}\
if not session then return false end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local is = redis.call('HMGET', KEYS[2], 'session', 'joined', 'peak', 'reported', 'wake')
if is[1] ~= session or now >= tonumber(is[5]) then
  {_TOP}
  if is[1] ~= session then begin(session, entry, time[1] * 1000000 + time[2]) end
  write_plain(tend(now))
  is = redis.call('HMGET', KEYS[2], 'session', 'joined', 'peak', 'reported', 'wake')
end
local goes = now + ARGV[2]
local came = redis.call('ZADD', KEYS[3], goes, ARGV[1])
if goes < tonumber(is[5]) then redis.call('HSET', KEYS[2], 'wake', goes) end
local current = redis.call('ZCARD', KEYS[3]) + is[4]
if came == 1 then
  redis.call('PFADD', KEYS[4], ARGV[1])
  redis.call('HSET', KEYS[2], 'joined', is[2] + ARGV[3], 'peak', math.max(is[3], current))
  if current <= {_EXACT_UP_TO} then redis.call('SET', KEYS[5], current, 'EX', {keys.VIEWERS_TTL:.0f}) end
end
return current * 2 + came
""")

_LEAVE = Script(f"""\
-- A viewer has gone: (viewer) -> how many watch, times two, and 1 more if it was there.
{_TOP}
local now = clock()
local wake = redis.call('HGET', KEYS[2], 'wake')
if wake and now >= tonumber(wake) then tend(now) end
local left = redis.call('ZREM', KEYS[3], ARGV[1])
local current = redis.call('ZCARD', KEYS[3]) + (redis.call('HGET', KEYS[2], 'reported') or 0)
-- Not where it is not: the stream may have ended.
if left == 1 and current <= {_EXACT_UP_TO} then
  redis.call('SET', KEYS[5], current, 'EX', {keys.VIEWERS_TTL:.0f}, 'XX')
end
return current * 2 + left
""")

_REPORT = Script(f"""\
-- A source tells how many it serves: (source, number, milliseconds until that is not true any more) -> how
-- many watch, times two, and 1 more if it told another number; nothing: the session on air is not known.
{_TOP}
{_ON_AIR}\
if not session then return false end
local now, micros = clock()
if redis.call('HGET', KEYS[2], 'session') ~= session then begin(session, entry, micros) end
tend(now)
local before = string.match(redis.call('HGET', KEYS[6], ARGV[1]) or '0:', '%d+')
if ARGV[2] == '0' then
  redis.call('HDEL', KEYS[6], ARGV[1])
else
  redis.call('HSET', KEYS[6], ARGV[1], string.format('%s:%.0f', ARGV[2], now + ARGV[3]))
end
local current = tend(now)
redis.call('HSET', KEYS[2], 'peak', math.max(redis.call('HGET', KEYS[2], 'peak'), current))
write_plain(current)
return current * 2 + (before ~= ARGV[2] and 1 or 0)
""")

_READ = Script(f"""\
-- Reads the counter: ('peek', stamp), ('flush', session, its peak, unique, epoch and joined in PostgreSQL) of
-- this alone, or ('close', milliseconds of the marker) -> session, epoch, joined, peak, unique, current, now;
-- an empty answer: there is none; nothing: 'peek' alone, the session on air is not known. 'close' has nobody
-- counted from now on: the marker of the lease cache, that a write is under way.
{_TOP}
{_ON_AIR}\
local is = redis.call('HMGET', KEYS[2], 'session', 'epoch', 'joined', 'peak', 'unique', 'reported', 'wake')
if ARGV[1] == 'peek' then
  if not session then return false end
  if is[1] ~= session then return {{}} end
elseif ARGV[1] == 'flush' then
  -- Of another session: brought back by a restored server, or just changed. Whoever needs it asks PostgreSQL.
  local cached = entry and string.match(entry, '^{{"id":(%d+)', {_PAYLOAD})
  if cached and cached ~= ARGV[2] then redis.call('UNLINK', KEYS[1]) end
  if is[1] ~= ARGV[2] then return {{}} end
  -- Brought back from before the last flush: what comes now would seem to be in it.
  local epoch, flushed = tonumber(ARGV[5]), tonumber(ARGV[6])
  if tonumber(is[2]) < epoch or (tonumber(is[2]) == epoch and tonumber(is[3]) < flushed) then
    is[2], is[3] = ARGV[5], ARGV[6]
    redis.call('HSET', KEYS[2], 'epoch', is[2], 'joined', is[3])
  end
  -- More than is known here where Redis lost it, and the entry that this began from was older than the last
  -- flush.
  is[4], is[5] = math.max(is[4], ARGV[3]), math.max(is[5], ARGV[4])
  redis.call('HSET', KEYS[2], 'peak', is[4], 'unique', is[5])
else
  if entry ~= 'w' then redis.call('SET', KEYS[1], 'w', 'PX', ARGV[2]) end
  if not is[1] then return {{}} end
end
local now = clock()
local current
if ARGV[1] == 'peek' and now < tonumber(is[7]) then
  current = redis.call('ZCARD', KEYS[3]) + is[6]
else
  current = tend(now)
end
if ARGV[1] == 'flush' then write_plain(current) end
local unique = math.max(is[5], redis.call('PFCOUNT', KEYS[4]))
return {{tonumber(is[1]), tonumber(is[2]), tonumber(is[3]), tonumber(is[4]), unique, current, now}}
""")

_FORGET = Script("""\
-- Removes all that is counted of a session, or of any: (session, or nothing)
local session = redis.call('HGET', KEYS[1], 'session')
if ARGV[1] ~= '' and session and session ~= ARGV[1] then return 0 end
return redis.call('UNLINK', unpack(KEYS))
""")


def ask_seen(stream_id: int, viewer: str, expiry: int, joined: int) -> Ask[ViewerCount]:
    """A join (`joined` 1) or a heartbeat (0). `expiry` in milliseconds."""
    return Ask(_SEEN, keys.viewer_keys(stream_id), (viewer, expiry, joined), _count, is_stamped=True)


def ask_leave(stream_id: int, viewer: str) -> Ask[ViewerCount]:
    """A viewer who goes."""
    return Ask(_LEAVE, keys.viewer_keys(stream_id), (viewer,), _count)


def ask_report(stream_id: int, source: str, number: int, expiry: int) -> Ask[ViewerCount]:
    """A number that a source tells. `expiry` in milliseconds."""
    return Ask(_REPORT, keys.viewer_keys(stream_id), (source, number, expiry), _count, is_stamped=True)


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

    return Ask(_READ, keys.viewer_keys(stream_id), ("peek",), read, is_stamped=True)


def ask_counted(stream_id: int, flushed: Counted) -> Ask[Counted | None]:
    """What there is to flush of the session on air, of which `flushed` is in PostgreSQL. None: nothing is
    counted."""
    figures = (flushed.session_id, flushed.peak, flushed.unique, flushed.epoch, flushed.joined)
    return Ask(_READ, keys.viewer_keys(stream_id), ("flush", *figures), _counted)


def ask_close(stream_id: int, marker: int) -> Ask[Counted | None]:
    """What there is to flush last of all. For `marker` milliseconds nobody is counted, until the cache is
    told that the session has ended."""
    # What another process has counted would be missing for ever: worth a wait, as a removal is.
    return Ask(_READ, keys.viewer_keys(stream_id), ("close", marker), _counted, insists=True)


def forget(stream_id: int, session_id: int | None) -> Tell:
    """The effect that removes what is counted of this session; None: of any. A later session's stays."""
    _, *rest = keys.viewer_keys(stream_id)
    return Tell(_FORGET, tuple(rest), ("" if session_id is None else session_id,))


def _count(reply: Any) -> ViewerCount | Literal[Unreached.UNREACHED]:
    if reply is None:
        return UNREACHED
    return ViewerCount(current=reply >> 1, is_change=reply & 1 == 1, is_counted=True)


def _counted(reply: Any) -> Counted | None:
    return Counted(*reply[:6]) if reply else None
