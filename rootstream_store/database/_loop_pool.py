"""The pool of a store on an event loop: the same connections, waited for without holding up the loop."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import OrderedDict
from contextlib import suppress
from typing import Any, TypeVar

import psycopg
from greenlet import GreenletExit
from psycopg.abc import PQGen
from psycopg.pq import TransactionStatus
from psycopg.waiting import Ready, Wait

from rootstream_store.database._connection import WAKE_UP, Connection
from rootstream_store.database._pool import Pool, PooledConnection
from rootstream_store.event_loop import Home, breathe, current, finish, is_abandoned, wait_for
from rootstream_store.settings import Settings

__all__ = ["LoopPool"]

T = TypeVar("T")

_CANCEL_WAIT = 2.0
"""Seconds that a cancelled statement may take to end; then its connection is given up."""
_READ, _WRITE = Wait.R, Wait.W
_log = logging.getLogger("rootstream_store")


class LoopConnection(PooledConnection):
    """A connection whose statements are waited for by the event loop, where a Call runs them."""

    has_place: bool = False
    """Handed out to a Call, and so counted by the gate."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lock = _CallLock()  # type: ignore[assignment]  # psycopg only enters and leaves it

    def wait_within(self, gen: PQGen[T], interval: float = WAKE_UP, timeout: float | None = None) -> T:
        """As Connection.wait_within."""
        call = current()
        if call is None:
            if is_abandoned():
                self.pgconn.finish()
                raise GeneratorExit
            return super().wait_within(gen, interval, timeout)
        try:
            return _drive(gen, self.pgconn.socket, call.home.loop, timeout)
        except asyncio.CancelledError:
            self._stop_statement(gen, call.home.loop)
            raise
        except (GeneratorExit, GreenletExit):  # the task is thrown away, and can wait for nothing any more
            self._give_up(gen)
            raise

    def _stop_statement(self, gen: PQGen[Any], loop: asyncio.AbstractEventLoop) -> None:
        """What psycopg does at Ctrl-C: the server stops, and the connection can be used again. A task that is
        cancelled once more meanwhile ends no sooner."""
        self.is_completed = False
        is_active = self.pgconn.transaction_status == TransactionStatus.ACTIVE
        # In a pipeline, statements wait here to be sent, and what ends it must be.
        if not is_active and self._pipeline is None:
            gen.close()
            return
        deadline = loop.time() + _CANCEL_WAIT
        # A COMMIT or ROLLBACK of a whole transaction has no work left that could be stopped: it is better to
        # know how it ends.
        is_ending = self.in_transaction and not self._num_transactions
        try:
            if is_active and not is_ending:
                with suppress(asyncio.CancelledError):
                    finish(self._try_cancel, timeout=_CANCEL_WAIT)
            _drive(gen, self.pgconn.socket, loop, deadline - loop.time(), to_the_end=True)
            self.is_completed = is_ending
        except psycopg.Error as error:
            # It was stopped, or failed by itself before. Where the server does not answer:
            if self.pgconn.transaction_status in (TransactionStatus.ACTIVE, TransactionStatus.UNKNOWN):
                _log.warning("a cancelled statement did not end, closing its connection: %s", error)
                self._give_up(gen)
        except BaseException:  # Ctrl-C, or the task is thrown away
            self._give_up(gen)
            raise

    def _give_up(self, gen: PQGen[Any]) -> None:
        self.pgconn.finish()
        # Now, and not when it is collected, where its failure to go on would be nobody's.
        with suppress(psycopg.Error, RuntimeError):
            gen.close()


class _CallLock:
    """As psycopg's lock of a connection; but two calls of one thread on one connection are an error: the
    second would wait for ever, and the event loop with it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner = 0

    def __enter__(self) -> None:
        me = threading.get_ident()
        if not self._lock.acquire(blocking=False):
            if self._owner == me:
                raise psycopg.OperationalError("another call is at work on this connection")
            self._lock.acquire()
        self._owner = me

    def __exit__(self, *_: object) -> None:
        self._owner = 0
        self._lock.release()


class LoopPool(Pool):
    """For the calls on one event loop, and for threads as well."""

    def __init__(self, settings: Settings, home: Home) -> None:
        super().__init__(settings)
        self._home = home
        self._places = settings.pool_size
        self._callers: OrderedDict[asyncio.Future[None], None] = OrderedDict()

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

    def _is_sound(self, connection: Connection) -> bool:
        try:
            return super()._is_sound(connection)
        except BaseException:  # a task that was cancelled while the connection was checked
            self.release(connection)
            raise

    def _wait_for_one(self, limit: float) -> Connection:
        call = current()
        if call is None:
            return super()._wait_for_one(limit)
        made = call.home.load(super()._wait_for_one, limit)
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
        self._callers[free] = None
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
            self._callers.pop(free, None)
        return time.monotonic() - start

    def _free_place(self) -> None:
        while self._callers:
            free, _ = self._callers.popitem(last=False)
            if not free.done():
                free.set_result(None)
                return
        self._places += 1

    def close(self, timeout: float = 5.0) -> None:
        super().close(timeout)
        self._home.soon(self._refuse_callers)

    def _refuse_callers(self) -> None:
        while self._callers:
            _expire(self._callers.popitem(last=False)[0], self._closed_error())


def _drive(
    gen: PQGen[T],
    socket: int,
    loop: asyncio.AbstractEventLoop,
    timeout: float | None,
    *,
    to_the_end: bool = False,
) -> T:
    """Waits for libpq's socket as `gen` asks; `to_the_end`: also when the task is cancelled. Raises what
    `gen` raises, and psycopg's timeout."""
    deadline = None if timeout is None else loop.time() + timeout
    try:
        wanted = next(gen)
    except StopIteration as end:
        breathe()  # a copy may send much without a wait
        found: T = end.value
        return found
    try:
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
                came = wait_for(ready)
            except asyncio.CancelledError:
                if not to_the_end:
                    raise
                continue
            finally:
                if timer is not None:
                    timer.cancel()
                if wanted & _READ:
                    loop.remove_reader(socket)
                if wanted & _WRITE:
                    loop.remove_writer(socket)
            wanted = gen.send(came)
    except StopIteration as end:
        value: T = end.value
        return value


def _note(ready: asyncio.Future[Ready], found: Ready) -> None:
    if not ready.done():
        ready.set_result(found)


def _expire(waiting: asyncio.Future[Any], error: Exception) -> None:
    if not waiting.done():
        waiting.set_exception(error)
