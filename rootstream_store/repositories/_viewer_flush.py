"""Bringing the counters of viewers from Redis to PostgreSQL: the steps of a flush, and of the last one at a
stop.

Reading a counter takes nothing away from it. It only grows, and how much of it is in a session's figures
stands in the row of those figures (sql/viewers/flush.sql): its epoch and its number are the id of the
flush. So there is no moment at which a crash could lose or double anything, and no left-over that somebody
must find; two who flush the same add it once. (Renaming the counter away, recording an id and deleting it
needs all of that.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from rootstream_store._limit import MAX_LIMIT
from rootstream_store.cache import UNREACHED
from rootstream_store.flow import Flow, ask, ask_all, rows
from rootstream_store.queries import query
from rootstream_store.repositories import _viewer_scripts as scripts
from rootstream_store.repositories._viewer_ranking import ask_rank
from rootstream_store.repositories._viewer_scripts import Counted

__all__ = ["FlushReport", "flush", "last_figures"]

_MARKER: Final = 30_000
"""Milliseconds for which a stop has nobody counted until it is committed; a rollback takes it back, unless
its process dies. Who keeps a transaction with a stop open for longer may lose viewers who join meanwhile."""


class FlushReport(msgspec.Struct, frozen=True, kw_only=True):
    """What one flush did."""

    streams: int
    """On air."""
    flushed: int
    """Whose figures in PostgreSQL were not those of Redis, and are now."""
    is_complete: bool
    """False: Redis, or there is none, did not answer for all of them. The next flush makes up for it."""


class _Session(msgspec.Struct, frozen=True, kw_only=True):
    """A stream on air, with what has been flushed of it."""

    stream_id: int
    session_id: int
    is_public: bool
    viewer_count: int
    total_viewers: int
    peak_viewers: int
    unique_viewers: int
    viewers_epoch: int
    viewers_counted: int

    @property
    def flushed(self) -> Counted:
        """The counter as it was flushed."""
        return Counted(
            session_id=self.session_id,
            epoch=self.viewers_epoch,
            joined=self.viewers_counted,
            peak=self.peak_viewers,
            unique=self.unique_viewers,
            current=self.viewer_count,
        )

    def differs(self, counted: Counted) -> bool:
        """Whether there is anything to bring."""
        return counted.epoch >= self.viewers_epoch and (
            (counted.epoch, counted.joined) != (self.viewers_epoch, self.viewers_counted)
            or counted.current != self.viewer_count
            or counted.peak > self.peak_viewers
            or min(counted.unique, self.total_viewers) > self.unique_viewers
        )


_FLUSH = query("viewers/flush", int)
_LIST_ON_AIR = query("viewers/list_on_air", _Session)


def flush(nonce: str) -> Flow[FlushReport]:
    """Flushes all streams on air and ranks the public ones. `nonce`: no other flush under way has it."""
    streams = flushed = after = 0
    complete = True
    ranked: list[tuple[int, int]] = []
    while page := (yield from rows(_LIST_ON_AIR, after_id=after, limit=MAX_LIMIT)):
        after = page[-1].stream_id
        streams += len(page)
        found = yield from ask_all([scripts.ask_counted(one.stream_id, one.flushed) for one in page])
        told = [
            (session, counted)
            for session, counted in zip(page, found, strict=True)
            if counted is not UNREACHED and counted is not None
        ]
        flushed += len((yield from _bring([pair for pair in told if pair[0].differs(pair[1])])))
        complete = complete and UNREACHED not in found
        if all(counted is UNREACHED for counted in found):
            return FlushReport(streams=streams, flushed=flushed, is_complete=False)
        # Of a node of a cluster that is away, what was flushed last. The others go on.
        current = {session.stream_id: counted.current for session, counted in told}
        ranked += [
            (current.get(session.stream_id, session.viewer_count), session.stream_id)
            for session in page
            if session.is_public
        ]
        if len(page) < MAX_LIMIT:
            break
    shown = yield from ask_all(ask_rank(ranked, nonce))
    complete = complete and UNREACHED not in shown
    return FlushReport(streams=streams, flushed=flushed, is_complete=complete)


def last_figures(stream_id: int) -> Flow[dict[str, int | None]]:
    """The parameters of a stop that bring what is counted until now. From now on nobody is counted until
    the cache knows of the stop: a join that was acknowledged is in the figures of its session."""
    nothing: dict[str, int | None] = dict.fromkeys(
        ("counted_session_id", "epoch", "joined", "peak", "unique")
    )
    counted = yield from ask(scripts.ask_close(stream_id, _MARKER), _nothing)
    if counted is None:
        return nothing
    return {
        "counted_session_id": counted.session_id,
        "epoch": counted.epoch,
        "joined": counted.joined,
        "peak": counted.peak,
        "unique": counted.unique,
    }


def _nothing() -> Flow[None]:
    return
    yield


def _bring(told: Sequence[tuple[_Session, Counted]]) -> Flow[list[int]]:
    if not told:
        return []
    return (
        yield from rows(
            _FLUSH,
            stream_ids=[session.stream_id for session, _ in told],
            session_ids=[counted.session_id for _, counted in told],
            epochs=[counted.epoch for _, counted in told],
            joined=[counted.joined for _, counted in told],
            peaks=[counted.peak for _, counted in told],
            uniques=[counted.unique for _, counted in told],
            currents=[counted.current for _, counted in told],
        )
    )
