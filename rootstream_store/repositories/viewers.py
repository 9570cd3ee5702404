"""Viewers of streams on air, one by one or as numbers: who watches now, the peak, how many different ones.

They are counted in Redis and flushed to PostgreSQL every few seconds (`flush`, `Flusher`), so that a
heartbeat costs one command. A stream's viewers are told either here or by
`streams.update_stats(viewer_count=…)` and `stream_sessions.add_viewers`, which write to PostgreSQL at once:
here, the next flush overwrites their number.

What is told to Redis is not a part of a transaction: it is counted at once, and a rollback does not undo it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Final

from rootstream_store import live
from rootstream_store._limit import check_limit
from rootstream_store.cache import UNREACHED, Ask, keys
from rootstream_store.cache.effects import milliseconds
from rootstream_store.db import CachedQuery, Db, repository
from rootstream_store.errors import InvalidInput, NotFound
from rootstream_store.flow import Flow, after_commit, ask, ask_all, cached, maybe, rows
from rootstream_store.queries import query
from rootstream_store.records import RankedStream, ViewerCount, ViewerFigures
from rootstream_store.repositories import _live, _viewer_flush
from rootstream_store.repositories import _viewer_scripts as scripts
from rootstream_store.repositories._viewer_flush import FlushReport
from rootstream_store.repositories._viewer_flusher import Flusher
from rootstream_store.repositories._viewer_ranking import ask_page
from rootstream_store.repositories._viewer_scripts import OnAir

__all__ = [
    "EXPIRY",
    "FlushReport",
    "Flusher",
    "flush",
    "get",
    "heartbeat",
    "join",
    "leave",
    "set",
    "top",
]

EXPIRY: Final = 45.0
"""Seconds after its last sign of life that a viewer, or a source's number, counts as gone: three heartbeats
of 15 s, so that two that are lost make nobody leave."""
_EXPIRY_MS: Final = int(EXPIRY * 1000)
_MOST_EXPIRY: Final = 300.0
_MOST_VIEWERS: Final = 10**12
_LONGEST: Final = 128
_ATTEMPTS: Final = 3

_FIGURES = query("viewers/get_figures", ViewerFigures)
_ON_AIR = CachedQuery(query("viewers/find_on_air", OnAir), key=keys.on_air, ttl=keys.VIEWERS_TTL)
_LIST_TOP = query("viewers/list_top", RankedStream)


@repository
def join(
    db: Db, stream_id: int, viewer_id: str | int, *, expiry: float = EXPIRY, announce: bool = False
) -> ViewerCount:
    """A viewer begins to watch, and counts as there until it leaves or `expiry` seconds pass without a
    heartbeat.

    One who is there already is not counted twice, so that it may be told again; one who comes back is
    counted again in the session's total. `viewer_id`: text of 1 to 128 characters or an integer; 7 and "7"
    are one viewer. Where Redis cannot be asked the answer says that it is not counted, and a join told
    again makes up for it. `announce`: tell the listeners of `live` soon, if the viewer was not there; not
    for crowds, whose messages would push all others out. Raises Conflict (not live), NotFound, InvalidInput.
    """
    viewer = _viewer(viewer_id)
    question = scripts.ask_seen(stream_id, viewer, _expiry(expiry), 1)

    def otherwise() -> Flow[ViewerCount]:
        return _ask_again(stream_id, question)

    if announce:
        return db.flow(_announced(live.ViewerJoined, stream_id, viewer, question, otherwise))
    return db.ask(question, otherwise)


@repository
def heartbeat(db: Db, stream_id: int, viewer_id: str | int, *, expiry: float = EXPIRY) -> ViewerCount:
    """A viewer still watches: to be told every `expiry` / 3 seconds. One who was given up, or whom a
    restarted Redis has forgotten, is there again, but is not added to the session's total. Else as
    `join`."""
    question = scripts.ask_seen(stream_id, _viewer(viewer_id), _expiry(expiry), 0)
    return db.ask(question, lambda: _ask_again(stream_id, question))


@repository
def leave(db: Db, stream_id: int, viewer_id: str | int, *, announce: bool = False) -> ViewerCount:
    """A viewer goes. One who is not there changes nothing, also where the stream is off air or there is
    none. `announce`: as for `join`; of those who just stop to give signs of life nothing is told. Raises
    InvalidInput."""
    viewer = _viewer(viewer_id)
    question = scripts.ask_leave(stream_id, viewer)

    def uncounted() -> Flow[ViewerCount]:
        figures = yield from maybe(_FIGURES, stream_id=stream_id)
        return ViewerCount(
            current=0 if figures is None else figures.current, is_change=False, is_counted=False
        )

    if announce:
        return db.flow(_announced(live.ViewerLeft, stream_id, viewer, question, uncounted))
    return db.ask(question, uncounted)


@repository
def set(  # noqa: A001  # what it does, beside get; this module makes no sets
    db: Db, stream_id: int, count: int, *, source: str = "encoder", expiry: float = EXPIRY
) -> ViewerCount:
    """A source that knows only a number, an encoder or an edge server, tells how many it serves. To be
    repeated within `expiry` seconds: then they count as gone.

    The stream's viewers are those who joined one by one and the numbers of all sources: nobody must be told
    both ways. Numbers raise the peak, and the session's total to at least the peak; different viewers are
    not known of them. `count`: 0 takes it back. `source`: its name, 1 to 128 characters. Raises as `join`.
    """
    if type(count) is not int or not 0 <= count <= _MOST_VIEWERS:
        raise InvalidInput("count", f"must be an integer from 0 to {_MOST_VIEWERS}", count)
    question = scripts.ask_report(stream_id, _text("source", source), count, _expiry(expiry))
    return db.ask(question, lambda: _ask_again(stream_id, question))


@repository
def get(db: Db, stream_id: int) -> ViewerFigures:
    """Who watches the stream now; from PostgreSQL, as of the last flush or report, where Redis does not
    know. All 0 while off air. Raises NotFound."""
    return db.flow(figures(stream_id))


@repository
def top(db: Db, *, limit: int = 100, after: RankedStream | None = None) -> list[RankedStream]:
    """The public streams on air by their viewers, most first, and of equal ones the newer stream first, as
    of the last flush; from PostgreSQL where nobody flushes or Redis does not answer.

    `after`: the last one of the page before; None: the first page. A stream that rises meanwhile may be
    missing from the pages to come, one that falls may come again; those in between do not move. `limit`: 1
    to 1000, else InvalidInput.
    """
    check_limit(limit)
    if after is not None and not isinstance(after, RankedStream):
        raise InvalidInput("after", "must be the last stream of the page before, or None")
    bound = RankedStream(stream_id=2**63 - 1, viewers=2**63 - 1) if after is None else after
    return db.ask(
        ask_page(limit, after),
        lambda: rows(_LIST_TOP, after_viewers=bound.viewers, after_id=bound.stream_id, limit=limit),
    )


@repository
def flush(db: Db) -> FlushReport:
    """Brings what is counted in Redis to the sessions on air and their streams, and ranks the streams for
    `top`.

    Several at once, also in several processes, add everything once; one that was cut off at any point is
    made up for by the next. For all the time see `Flusher`. Raises Unavailable and Timeout, retryable.
    """
    return db.flow(_viewer_flush.flush(secrets.token_hex(8)))


def figures(stream_id: int) -> Flow[ViewerFigures]:
    """The steps of `get`."""
    found = yield from ask(scripts.ask_figures(stream_id), lambda: _figures_once_known(stream_id))
    if found is None:
        found = yield from maybe(_FIGURES, stream_id=stream_id)
    if found is None:
        raise NotFound("stream", {"stream_id": stream_id}, query=_FIGURES.file)
    return found


def _figures_once_known(stream_id: int) -> Flow[ViewerFigures | None]:
    for _ in range(_ATTEMPTS):  # as in _ask_again
        if (yield from cached(_ON_AIR, stream_id=stream_id)) is None:
            return None
        question = scripts.ask_figures(stream_id)
        if (answer := (yield from ask_all([question]))[0]) is not UNREACHED:
            return answer
    return None


def _ask_again(stream_id: int, question: Ask[ViewerCount]) -> Flow[ViewerCount]:
    """Where Redis did not know the session on air: tells it, by way of the cache, and asks once more. Twice
    is once, so this does no harm after a lost answer."""
    # Again where the cache forgot it just then, as it does once after each start. Without Redis nothing
    # waits.
    for _ in range(_ATTEMPTS):
        if (yield from cached(_ON_AIR, stream_id=stream_id)) is None:
            raise (yield from _live.not_on_air(stream_id, _ON_AIR.query))
        if (answer := (yield from ask_all([question]))[0]) is not UNREACHED:
            return answer
    return (yield from _uncounted(stream_id))


def _uncounted(stream_id: int) -> Flow[ViewerCount]:
    found = yield from maybe(_FIGURES, stream_id=stream_id)
    if found is None or found.session_id is None:
        raise (yield from _live.not_on_air(stream_id, _ON_AIR.query))
    return ViewerCount(current=found.current, is_change=False, is_counted=False)


def _announced(
    message: type[live.ViewerJoined | live.ViewerLeft],
    stream_id: int,
    viewer: str,
    question: Ask[ViewerCount],
    otherwise: Callable[[], Flow[ViewerCount]],
) -> Flow[ViewerCount]:
    count = yield from ask(question, otherwise)
    if count.is_change:
        told = message(stream_id=stream_id, viewer_id=viewer, viewers=count.current)
        yield from after_commit(live.announce(told, soon=True))
    return count


def _viewer(viewer_id: str | int) -> str:
    if type(viewer_id) is int and -(2**63) <= viewer_id < 2**63:
        return str(viewer_id)
    return _text("viewer_id", viewer_id)


def _text(field: str, value: object) -> str:
    # Not shown: it may name a person.
    if type(value) is not str or not 1 <= len(value) <= _LONGEST:
        rule = f"text of 1 to {_LONGEST} characters"
        raise InvalidInput(field, f"must be {rule}" if field == "source" else f"must be {rule} or an integer")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InvalidInput(field, "must be text that UTF-8 can hold (it has a lone surrogate)") from None
    return value


def _expiry(seconds: float) -> int:
    if seconds == EXPIRY:
        return _EXPIRY_MS
    found = milliseconds(seconds, "expiry")
    if found > _MOST_EXPIRY * 1000:
        raise InvalidInput("expiry", f"must be at most {_MOST_EXPIRY:.0f} s", seconds)
    return found
