"""Storing stream stats: of many reports one row a stream, many streams in one statement, each batch once."""

from __future__ import annotations

from typing import Any, NamedTuple

from rootstream_store.capi._writer_session import Fenced, Note, WriterSession
from rootstream_store.database import Connection, fetch_one
from rootstream_store.errors import RootStreamError
from rootstream_store.queries import query
from rootstream_store.records import Record

__all__ = ["StatsWriter"]


class _StoredStats(Record, kw_only=True):
    stream_ids: list[int]
    """Of the streams that were on air."""
    is_mine: bool


_STORE = query("capi/store_stats", _StoredStats)


class _Row(NamedTuple):
    stream_id: int
    viewer_count: int
    most_viewers: int
    bitrate_kbps: int
    fps: float
    bytes_sent: int
    reports: int
    """How many were made one."""


class StatsWriter:
    """Takes stats from the queue and stores them. For one thread."""

    def __init__(self, ffi: Any, lib: Any, queue: Any, session: WriterSession) -> None:
        self._ffi, self._lib, self._queue, self._session = ffi, lib, queue, session
        self._rows = ffi.gc(lib.rssq_rows_new(), lib.rssq_rows_free)
        if self._rows == ffi.NULL:
            raise MemoryError
        self._parts: list[list[_Row]] = []
        """What was taken out of them and is still to be stored, the last one first."""
        self._end = self._reports = self._stored = 0
        self.waiting = False
        """Whether there are figures that are not stored yet."""

    def collect(self) -> None:
        """Takes what was reported out of the queue, so that it has room for more."""
        count = self._lib.rssq_rows_fill(self._rows, self._queue)
        if count < 0:
            raise MemoryError
        self.waiting = bool(count or self._parts)
        if not self.waiting:
            self._lib.rssq_queue_nothing_in_hand(self._queue, 0, 1)

    def store(self, note: Note) -> None:
        """Stores what was collected. Raises Stopped."""
        self.collect()
        if not self._parts and self.waiting:
            self._take()
        while self._parts:
            part = self._parts[-1]
            found = self._apply(part, note)
            if found is None and len(part) > 1:
                # A sum of bytes that no column can hold: the others must not suffer for it.
                middle = len(part) // 2
                self._parts[-1:] = [part[middle:], part[:middle]]
                continue
            self._parts.pop()
            self._stored += sum(row.reports for row in part if found and row.stream_id in found)
            if not self._parts:
                self._lib.rssq_queue_stats_done(
                    self._queue, self._end, self._stored, self._reports - self._stored
                )
        self.collect()

    def _take(self) -> None:
        taken = self._ffi.new("rssq_row[]", self._lib.rssq_rows_fill(self._rows, self._queue))
        self._end = self._lib.rssq_rows_end(self._rows)
        self._lib.rssq_rows_take(self._rows, taken)
        rows = [
            _Row(
                row.stats.stream_id,
                row.stats.viewer_count,
                row.most_viewers,
                row.stats.bitrate_kbps,
                row.stats.fps,
                row.stats.bytes_sent,
                row.reports,
            )
            for row in taken
        ]
        self._reports, self._stored = sum(row.reports for row in rows), 0
        self._parts = [rows]
        self._session.begin_batch()

    def _apply(self, rows: list[_Row], note: Note) -> set[int] | None:
        """The streams of the rows that were on air; None when the server refuses what they hold."""
        batch = self._session.stats_batch + 1
        on_air: set[int] = set()

        def attempt(connection: Connection) -> None:
            stored = fetch_one(
                connection,
                _STORE,
                {
                    "writer": self._session.writer,
                    "batch": batch,
                    "stream_ids": [row.stream_id for row in rows],
                    "viewer_counts": [row.viewer_count for row in rows],
                    "most_viewers": [row.most_viewers for row in rows],
                    "bitrates_kbps": [row.bitrate_kbps for row in rows],
                    "fps": [row.fps for row in rows],
                    "bytes_sent": [row.bytes_sent for row in rows],
                },
            )
            if stored is None or not stored.is_mine:
                raise Fenced
            on_air.clear()
            on_air.update(stored.stream_ids)

        error: RootStreamError | None = self._session.apply(
            attempt, lambda: self._session.stats_batch == batch, note
        )
        if error is not None:
            return None
        self._session.stats_batch = batch
        return on_air
