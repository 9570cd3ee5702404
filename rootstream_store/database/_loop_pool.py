"""The pool of a store on an event loop: the same connections, waited for without holding up the loop."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.pq import TransactionStatus
from psycopg.waiting import Ready, Wait

from rootstream_store.database._connection import WAKE_UP, Connection
from rootstream_store.database._pool import Pool, PooledConnection
from rootstream_store.event_loop import Home, current, in_thread, wait_for
from rootstream_store.settings import Settings

__all__ = ["LoopPool"]

T = TypeVar("T")

_CANCEL_WAIT = 5.0
"""Seconds that a cancelled statement may take to end; then its connection is given up."""
_READ, _WRITE = Wait.R, Wait.W
_log = logging.getLogger("rootstream_store")


class LoopConnection(PooledConnection):
    """A connection whose statements are waited for by the event loop, where a Call runs them."""

    has_place: bool = False
    """Handed out to a Call, and so counted by the gate."""

    def wait_within(self, gen: PQGen[T], interval: float = WAKE_UP, timeout: float | None = None) -> T:
        """As Connection.wait_within."""
        call = current()
        if call is None:
            return super().wait_within(gen, interval, timeout)
        try:
            return _drive(gen, self.pgconn.socket, call.home.loop, timeout)
        except asyncio.CancelledError:
            self._stop_statement(gen, call.home.loop)
            raise
        except GeneratorExit:  # the task is thrown away, and can wait for nothing any more
            self.pgconn.finish()
            raise

    def _stop_statement(self, gen: PQGen[Any], loop: asyncio.AbstractEventLoop) -> None:
        """What psycopg does at Ctrl-C: the server stops, and the connection can be used again."""
        if self.pgconn.transaction_status != TransactionStatus.ACTIVE:
            return
        try:
            in_thread(self._try_cancel, timeout=_CANCEL_WAIT)
            _drive(gen, self.pgconn.socket, loop, _CANCEL_WAIT)
        except psycopg.errors.QueryCanceled:
            pass  # as was asked for
        except BaseException as error:  # noqa: BLE001  # cancelled again, or the server does not stop
            _log.warning(
                "a cancelled statement did not end (%s): closing the connection", type(error).__name__
            )
            self.pgconn.finish()


class LoopPool(Pool):
    """For the calls on one event loop, and for threads as well."""

    def __init__(self, settings: Settings, home: Home) -> None:
        super().__init__(settings)
        self._home = home
        self._places = settings.pool_size
        self._callers: deque[asyncio.Future[None]] = deque()

    def _connection_class(self) -> type[PooledConnection]:
        return LoopConnection

    def acquire(self, timeout: float | None = None) -> Connection:
        """As Pool.acquire. Calls get one in the order in which they asked."""
        if current() is None:
            return super().acquire(timeout)
        limit = self.settings.pool_timeout if timeout is None else timeout
        if self._places > 0:
            self._places -= 1
        else:
            limit -= self._wait_for_place(limit)
        try:
            connection = super().acquire(limit)
        except BaseException:
            self._free_place()
            raise
        assert isinstance(connection, LoopConnection)  # the pool makes no others
        connection.has_place = True
        return connection

    def release(self, connection: Connection) -> None:
        """As Pool.release."""
        assert isinstance(connection, LoopConnection)  # the pool makes no others
        had_place, connection.has_place = connection.has_place, False
        super().release(connection)
        if had_place:
            # A block that was abandoned is ended by whichever thread collects it.
            self._home.soon(self._free_place)

    def _wait_for_one(self, limit: float) -> Connection:
        call = current()
        if call is None:
            return super()._wait_for_one(limit)
        made = call.home.in_thread(super()._wait_for_one, limit)
        try:
            return wait_for(asyncio.shield(made))
        except BaseException:
            # The thread goes on; nobody waits for what it gets.
            made.add_done_callback(self._take_back)
            raise

    def _take_back(self, made: asyncio.Future[Connection]) -> None:
        if not made.cancelled() and made.exception() is None:
            self.release(made.result())

    def _wait_for_place(self, limit: float) -> float:
        """Returns the seconds that it took. Raises Timeout, StoreClosed."""
        self.require_open()
        start = time.monotonic()
        loop = self._home.loop
        free = loop.create_future()
        timer = loop.call_later(limit, _expire, free, TimeoutError())
        self._callers.append(free)
        try:
            wait_for(free)
        except TimeoutError:
            raise self._exhausted(time.monotonic() - start) from None
        except BaseException:
            if free.done() and not free.cancelled() and free.exception() is None:
                self._free_place()  # it was ours already
            raise
        finally:
            timer.cancel()
        return time.monotonic() - start

    def _free_place(self) -> None:
        while self._callers:
            free = self._callers.popleft()
            if not free.done():
                free.set_result(None)
                return
        self._places += 1

    def close(self, timeout: float = 5.0) -> None:
        super().close(timeout)
        self._home.soon(self._refuse_callers)

    def _refuse_callers(self) -> None:
        while self._callers:
            _expire(self._callers.popleft(), self._closed_error())


def _drive(gen: PQGen[T], socket: int, loop: asyncio.AbstractEventLoop, timeout: float | None) -> T:
    """Waits for libpq's socket as `gen` asks. Raises what `gen` raises."""
    deadline = None if timeout is None else loop.time() + timeout
    try:
        wanted = next(gen)
        while True:
            ready: asyncio.Future[Ready] = loop.create_future()
            if wanted & _READ:
                loop.add_reader(socket, _note, ready, Ready.R)
            if wanted & _WRITE:
                loop.add_writer(socket, _note, ready, Ready.W)
            timer = None
            if deadline is not None:
                timer = loop.call_at(deadline, _expire, ready, psycopg.errors._WaitTimeout())
            try:
                found = wait_for(ready)
            finally:
                if timer is not None:
                    timer.cancel()
                if wanted & _READ:
                    loop.remove_reader(socket)
                if wanted & _WRITE:
                    loop.remove_writer(socket)
            wanted = gen.send(found)
    except StopIteration as end:
        value: T = end.value
        return value


def _note(ready: asyncio.Future[Ready], found: Ready) -> None:
    if not ready.done():
        ready.set_result(found)


def _expire(waiting: asyncio.Future[Any], error: Exception) -> None:
    if not waiting.done():
        waiting.set_exception(error)
