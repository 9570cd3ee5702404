"""Storing a batch of queued events: versions, COPY, dead letters and checkpoint in one transaction."""

from __future__ import annotations

from typing import Any

from rootstream_store.capi._writer_session import BigintArray, Fenced, Note, TextArray, WriterSession
from rootstream_store.database import Connection, execute, fetch_one
from rootstream_store.errors import DatabaseError, RootStreamError
from rootstream_store.queries import query
from rootstream_store.records import Record

__all__ = ["EventWriter"]

MOST_EVENTS = 8192
MOST_BYTES = 8 * 1024 * 1024
"""Of one transaction."""
_EPOCH_US = 946_684_800_000_000
"""From 1970 to 2000, where PostgreSQL's times begin."""
_LONGEST_TEXT = 500


class _MovedHeads(Record, kw_only=True):
    versions: list[int]
    """Of each aggregate in the order given, after its events; 0: it is closed."""
    is_mine: bool
    moved_at_us: int
    """Microseconds since 1970."""


_MOVE_HEADS = query("capi/move_heads", _MovedHeads)
_COPY = query("events/copy_events")
_REJECT = query("capi/reject")


class EventWriter:
    """Takes events from the queue and stores them. For one thread."""

    def __init__(self, ffi: Any, lib: Any, queue: Any, session: WriterSession) -> None:
        self._ffi, self._lib, self._queue, self._session = ffi, lib, queue, session
        self._batch = ffi.gc(lib.rssq_batch_new(), lib.rssq_batch_free)
        if self._batch == ffi.NULL:
            raise MemoryError
        self._parts: list[tuple[int, int]] = []
        """Of the batch, what is still to be stored, the last one first."""
        self._refused: dict[int, RootStreamError] = {}
        self._stored = self._rejected = 0

    def store(self, note: Note) -> bool:
        """Stores what is in the queue, up to a batch: whether there was anything. Raises Stopped."""
        if not self._parts:
            count: int = self._lib.rssq_batch_fill(self._batch, self._queue, MOST_EVENTS, MOST_BYTES)
            if count < 0:
                raise MemoryError
            if count == 0:
                self._lib.rssq_queue_nothing_in_hand(self._queue, 1, 0)
                return False
            self._refused.clear()
            self._session.begin_batch()
            self._parts = [(0, count)]
        while self._parts:
            start, end = self._parts[-1]
            error = self._store_part(start, end, note)
            if error is None:
                self._parts.pop()
                self._lib.rssq_queue_events_done(
                    self._queue, self._session.events_position, self._stored, self._rejected
                )
            elif end - start > 1:
                # What the server refuses as a whole is tried in halves, until the event at fault is alone.
                middle = (start + end) // 2
                self._parts[-1:] = [(middle, end), (start, middle)]
            elif start in self._refused:  # to keep it fails, too
                raise error
            else:
                self._refused[start] = error
                self._lib.rssq_batch_mark(self._batch, start)
        return True

    def _store_part(self, start: int, end: int, note: Note) -> RootStreamError | None:
        position: int = self._lib.rssq_batch_end(self._batch, end)
        error = self._session.apply(
            lambda connection: self._attempt(connection, start, end, position),
            lambda: self._session.events_position == position,
            note,
        )
        if error is None:
            self._session.events_position = position
        return error

    def _attempt(self, connection: Connection, start: int, end: int, position: int) -> None:
        if self._lib.rssq_batch_group(self._batch, start, end) < 0:
            raise MemoryError
        moved = fetch_one(
            connection,
            _MOVE_HEADS,
            {
                "writer": self._session.writer,
                "from_position": self._session.events_position,
                "to_position": position,
                "aggregate_ids": TextArray(self._array(0)),
                "aggregate_types": TextArray(self._array(1)),
                "counts": BigintArray(self._array(2)),
            },
        )
        if moved is None or not moved.is_mine:
            raise Fenced
        self._lib.rssq_batch_set_versions(self._batch, self._ffi.new("int64_t[]", moved.versions or [0]))
        numbers = self._ffi.new("int32_t[]", end - start)
        self._rejected = self._lib.rssq_batch_bad(self._batch, start, end, numbers)
        for index in range(self._rejected):
            execute(connection, _REJECT, self._letter(numbers[index]))
        self._stored = end - start - self._rejected
        if self._stored:
            self._copy(connection, start, end, moved.moved_at_us - _EPOCH_US)

    def _copy(self, connection: Connection, start: int, end: int, timestamp: int) -> None:
        size, rows = self._ffi.new("size_t *"), self._ffi.new("int *")
        text = self._lib.rssq_batch_copy(self._batch, start, end, timestamp, size, rows)
        if text == self._ffi.NULL:
            raise MemoryError
        with connection.cursor() as cursor:
            with cursor.copy(_COPY.text) as copy:
                copy.write(self._ffi.buffer(text, size[0])[:])
            if not cursor.rowcount == rows[0] == self._stored:
                raise DatabaseError(f"{cursor.rowcount} of {self._stored} events were written")

    def _array(self, which: int) -> bytes:
        size = self._ffi.new("size_t *")
        array = self._lib.rssq_batch_array(self._batch, which, size)
        if array == self._ffi.NULL:
            raise MemoryError
        return bytes(self._ffi.buffer(array, size[0]))

    def _letter(self, number: int) -> dict[str, object]:
        """What is kept of an event that cannot be stored."""
        view = self._ffi.new("rssq_view *")
        self._lib.rssq_batch_view(self._batch, number, view)
        error = self._refused.get(number)
        if error is not None:
            text = f"was refused by PostgreSQL: {error}"
        elif view.error != self._ffi.NULL:
            text = f"{self._ffi.string(view.field).decode()} {self._ffi.string(view.error).decode()}"
            if view.at:
                text += f" (byte {view.at})"
        else:
            text = "its aggregate is closed: no further event is accepted"
        metadata = view.metadata != self._ffi.NULL
        return {
            "writer": self._session.writer,
            "aggregate_type": self._name(view.aggregate_type, view.aggregate_type_size),
            "aggregate_id": self._name(view.aggregate_id, view.aggregate_id_size),
            "event_type": self._name(view.event_type, view.event_type_size),
            "event_data": self._bytes(view.data, view.data_size),
            "metadata": self._bytes(view.metadata, view.metadata_size) if metadata else None,
            "user_id": view.user_id if view.has_user else None,
            "sqlstate": None if error is None else error.sqlstate,
            "error_text": " ".join(text.split())[:_LONGEST_TEXT],
        }

    def _bytes(self, pointer: Any, size: int) -> bytes:
        return bytes(self._ffi.buffer(pointer, size))

    def _name(self, pointer: Any, size: int) -> str:
        return self._bytes(pointer, size).replace(b"\0", b"\\x00").decode(errors="backslashreplace")
