"""The streams on air by their viewers: a sorted set in Redis that each flush makes anew. No I/O."""

from __future__ import annotations

from typing import Any, Final, Literal

from rootstream_store.cache import UNREACHED, Ask, Script, Tell, Unreached, keys
from rootstream_store.records import RankedStream

__all__ = ["ask_page", "ask_rank", "unrank"]

_LIFETIME: Final = 60
"""Seconds that the ranking stays when nobody flushes any more."""
_CHUNK: Final = 1000
"""Streams in one script, whose arguments must fit on Lua's stack."""

_ADD = Script("""\
-- Adds streams to a ranking in the making: (seconds, number, stream, number, stream, …)
redis.call('ZADD', KEYS[1], unpack(ARGV, 2))
return redis.call('EXPIRE', KEYS[1], ARGV[1])
""")

_SHOW = Script("""\
-- Puts the new ranking in the place of the old one; where nothing was ranked there is none.
if redis.call('EXISTS', KEYS[1]) == 0 then return redis.call('UNLINK', KEYS[2]) end
return redis.call('RENAME', KEYS[1], KEYS[2])
""")

_PAGE = Script("""\
-- A page: (how many, number and stream of the last one before it, or nothing) -> stream, number, …
-- Nothing: there is no ranking.
if redis.call('EXISTS', KEYS[1]) == 0 then return false end
local first = 0
if ARGV[2] ~= '' then
  -- Its equals lie together, ordered as text, the last one first. It may itself be among them no more.
  local low = redis.call('ZCOUNT', KEYS[1], '(' .. ARGV[2], '+inf')
  local high = low + redis.call('ZCOUNT', KEYS[1], ARGV[2], ARGV[2])
  while low < high do
    local middle = math.floor((low + high) / 2)
    local stream = redis.call('ZREVRANGE', KEYS[1], middle, middle)[1]
    if stream < ARGV[3] then high = middle else low = middle + 1 end
  end
  first = low
end
return redis.call('ZREVRANGE', KEYS[1], first, first + ARGV[1] - 1, 'WITHSCORES')
""")

_REMOVE = Script("return redis.call('ZREM', KEYS[1], ARGV[1])")


def ask_rank(ranked: list[tuple[int, int]], nonce: str) -> list[Ask[bool]]:
    """What puts these in the place of the ranking: (viewers, stream id). Until the last of it the old one
    stays. `nonce`: nobody else's at this time."""
    making = f"{{{keys.BY_VIEWERS}}}:{nonce}"
    asks = []
    for start in range(0, len(ranked), _CHUNK):
        pairs = [
            part for viewers, stream in ranked[start : start + _CHUNK] for part in (viewers, _member(stream))
        ]
        asks.append(Ask(_ADD, [making], [_LIFETIME, *pairs], bool))
    return [*asks, Ask(_SHOW, [making, keys.BY_VIEWERS], [], bool)]


def ask_page(limit: int, after: RankedStream | None) -> Ask[list[RankedStream]]:
    """A page of the ranking, from after a stream on."""
    start = ("", "") if after is None else (after.viewers, _member(after.stream_id))
    return Ask(_PAGE, [keys.BY_VIEWERS], [limit, *start], _read)


def unrank(stream_id: int) -> Tell:
    """The effect that takes a stream out."""
    return Tell(_REMOVE, (keys.BY_VIEWERS,), (_member(stream_id),))


def _member(stream_id: int) -> str:
    # Of as many digits as any other, since equals are ordered as text.
    return f"{stream_id:019}"


def _read(reply: Any) -> list[RankedStream] | Literal[Unreached.UNREACHED]:
    if reply is None:
        return UNREACHED
    # Flat where a script answers, whatever the protocol.
    parts = iter(reply)
    return [
        RankedStream(stream_id=int(stream), viewers=int(number))
        for stream, number in zip(parts, parts, strict=True)
    ]
