"""The writer's own connection, and its checkpoint: what makes each batch be applied exactly once.

A batch and the checkpoint that says so are written in one transaction. When the connection is lost on the
way, nobody knows whether it was committed: the checkpoint is read on a new connection, once the old
transaction has ended.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import msgspec
import psycopg
from psycopg.adapt import Buffer, Dumper
from psycopg.pq import Format

from rootstream_store.database import Connection, close_if_useless, conninfo, execute, fetch_one, translate
from rootstream_store.errors import Conflict, RootStreamError, Timeout, Unavailable
from rootstream_store.queries import query
from rootstream_store.records import Record
from rootstream_store.settings import Settings

__all__ = ["BigintArray", "Fenced", "Note", "Stopped", "TextArray", "WriterSession", "is_passing"]

_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 1.0
"""Seconds between two attempts."""
_PATIENCE = 30.0
"""Seconds for which a batch is tried again whose error may be the server's or its own."""
_DOUBTFUL = ("26", "XX")
"""A prepared statement that is not there; a fault inside the server. Mostly the server's, but an event can be
what makes it fail, and would hold up the queue for ever."""


Note = Callable[[RootStreamError | None], None]
"""Told of each failed attempt, and with None of one that succeeded."""


class _Opened(Record, kw_only=True):
    pid: int
    backend_start: datetime


class _Checkpoint(Record, kw_only=True):
    events_position: int
    stats_batch: int


_OPEN = query("capi/open_writer", _Opened)
_END_BACKEND = query("capi/end_backend", bool)
_LOCK = query("capi/lock_writer", _Checkpoint)
_RESET = query("capi/reset_writer")
_CLOSE = query("capi/close_writer")


class Fenced(Exception):
    """The checkpoint is not where this writer left it, and nothing was applied."""


class Stopped(Exception):
    """The queue was closed, and its time is over: what is left is given up."""


class TextArray(bytes):
    """A text[] in PostgreSQL's binary form."""


class BigintArray(bytes):
    """A bigint[] in PostgreSQL's binary form."""


class _AsItIs(Dumper):
    format = Format.BINARY

    def dump(self, obj: Any) -> Buffer:
        return bytes(obj)


class _TextArrayDumper(_AsItIs):
    oid = 1009


class _BigintArrayDumper(_AsItIs):
    oid = 1016


def is_passing(error: RootStreamError) -> bool:
    """Whether the same batch may succeed later: what is wrong is not what it holds."""
    if isinstance(error, Conflict):
        return error.retryable
    if isinstance(error, Unavailable | Timeout):
        return True
    # No such table, no permission, no disk: for people to mend. The queue keeps what it has meanwhile.
    return (error.sqlstate or "")[:2] in ("42", "28", "3D", "3F", "0A", "25", "55", "58")


class WriterSession:
    """A connection that is made anew when it is lost. For one thread, but for `abort`."""

    def __init__(
        self, settings: Settings, pause: Callable[[float], bool], reconnected: Callable[[], None]
    ) -> None:
        """`pause` waits for so many seconds and tells whether the writer is to stop; `reconnected` is called
        when a lost connection was made anew."""
        self._settings = msgspec.structs.replace(
            settings, application_name=f"{settings.application_name} queue"
        )
        self._pause, self._reconnected = pause, reconnected
        self.writer: UUID = uuid4()
        self.events_position = 0
        self.stats_batch = 0
        self._connection: Connection | None = None
        self._opened: _Opened | None = None
        self._guard = threading.Lock()
        self._aborted = False
        self._patient_until: float | None = None

    def apply(
        self,
        attempt: Callable[[Connection], None],
        is_applied: Callable[[], bool],
        note: Note,
    ) -> RootStreamError | None:
        """Runs `attempt` in a transaction until it has been applied, once: None. Or the error for what it
        holds, with which it was rolled back. `is_applied` compares the checkpoint, just read, with where the
        attempt moves it. Raises Stopped."""
        pause = _FIRST_PAUSE
        in_doubt = False
        while True:
            try:
                connection = self._connect()
                if in_doubt:
                    before = self.events_position, self.stats_batch
                    self._read_checkpoint(connection)
                    if is_applied():
                        note(None)
                        return None
                    self._return_to(connection, before)
                with connection.transaction():
                    attempt(connection)
            except Fenced:
                in_doubt = True
                error: RootStreamError = Unavailable("the checkpoint of the queue is not where it was left")
            except psycopg.Error as failure:
                in_doubt = True
                broken = self._connection is None or self._connection.broken
                error = translate(failure, write=True, broken=broken)
                if self._connection is not None:
                    close_if_useless(self._connection, error)
            except RootStreamError as failure:
                in_doubt = True
                error = failure
            else:
                note(None)
                return None
            if not is_passing(error) and not self._may_pass(error):
                return error
            note(error)
            if self._aborted or self._pause(random.uniform(pause / 2, pause)):
                raise Stopped
            pause = min(_LONGEST_PAUSE, pause * 2)

    def begin_batch(self) -> None:
        """Of what follows nothing has been tried yet."""
        self._patient_until = None

    def _may_pass(self, error: RootStreamError) -> bool:
        if (error.sqlstate or "")[:2] not in _DOUBTFUL:
            return False
        # Once for a batch and all its parts: to find the one at fault must not take so long for each half.
        if self._patient_until is None:
            self._patient_until = time.monotonic() + _PATIENCE
        return time.monotonic() < self._patient_until

    def _return_to(self, connection: Connection, before: tuple[int, int]) -> None:
        """The attempt was not applied. A server that has another checkpoint than we left is another one and
        has not heard of all of it: there is no way back, so from here on."""
        if (self.events_position, self.stats_batch) != before:
            self.events_position, self.stats_batch = before
            execute(connection, _RESET, self._params())

    def _params(self) -> dict[str, object]:
        return {
            "writer": self.writer,
            "events_position": self.events_position,
            "stats_batch": self.stats_batch,
        }

    def _read_checkpoint(self, connection: Connection) -> None:
        with connection.transaction():
            found = fetch_one(connection, _LOCK, {"writer": self.writer})
        if found is None:  # somebody took the row away
            self._open(connection)
        else:
            self.events_position, self.stats_batch = found.events_position, found.stats_batch

    def _connect(self) -> Connection:
        if self._connection is not None and not self._connection.closed:
            return self._connection
        lost = self._opened
        kwargs: dict[str, Any] = {"autocommit": True}
        if self._settings.pgbouncer:
            kwargs["prepare_threshold"] = None
        connection = Connection.connect(conninfo(self._settings), **kwargs)
        connection.adapters.register_dumper(TextArray, _TextArrayDumper)
        connection.adapters.register_dumper(BigintArray, _BigintArrayDumper)
        with self._guard:
            self._connection = connection
        try:
            if self._aborted:
                raise Stopped
            connection.limit_waits(self._settings)
            if lost is not None:
                self._reconnected()
                self._end_backend(connection, lost)
            self._open(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _end_backend(self, connection: Connection, lost: _Opened) -> None:
        """It may still hold locks on the rows that we want, for as long as the server does not notice."""
        if not self._settings.pgbouncer:
            with contextlib.suppress(RootStreamError):  # then it takes longer
                fetch_one(connection, _END_BACKEND, {"pid": lost.pid, "backend_start": lost.backend_start})

    def _open(self, connection: Connection) -> None:
        self._opened = fetch_one(connection, _OPEN, self._params())

    def close(self) -> None:
        """Takes the checkpoint away, which nobody needs any longer, and closes the connection."""
        connection = self._connection
        if connection is None or connection.closed:
            return
        with contextlib.suppress(
            RootStreamError, psycopg.Error
        ):  # a row that nobody moves goes after a while
            execute(connection, _CLOSE, {"writer": self.writer})
        connection.close()

    def abort(self) -> None:
        """Makes the thread that waits for the server stop waiting. Any thread."""
        with self._guard:
            self._aborted = True
            connection = self._connection
            if connection is None or connection.closed:
                return
            with contextlib.suppress(OSError, psycopg.Error):
                end = socket.socket(fileno=os.dup(connection.fileno()))
                with end:
                    end.shutdown(socket.SHUT_RDWR)
