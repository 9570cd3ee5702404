"""The connection pool: psycopg_pool with bounded waits, the most recently used connection first, and clear
errors."""

from __future__ import annotations

import bisect
import gc
import itertools
import logging
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, Self, cast

import psycopg
from psycopg.pq import TransactionStatus
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout, TooManyRequests

from rootstream_store.database._connection import Connection, conninfo, names_several_hosts
from rootstream_store.database._translate import connection_error
from rootstream_store.errors import StoreClosed, Timeout, Unavailable
from rootstream_store.settings import Settings

__all__ = ["Pool"]

# One wait inside a longer one: after it gave up on a dead server the pool tries to grow again only when it is
# asked again, so a single long wait would not notice that the server is back (psycopg issues 1315, 438).
_WAIT_SLICE = 0.5
# So long a connection must have been missing before another is made in its place.
_MISSING_FOR = 1.5
_numbers = itertools.count(1)
_log = logging.getLogger("rootstream_store")


class Pool:
    """Connections to one database. All waits are bounded by the settings."""

    def __init__(self, settings: Settings) -> None:
        """Raises SettingsError, Unavailable when the server cannot be reached, PermissionDenied when it
        refuses us."""
        self.settings = settings
        self.name = f"{settings.application_name}-{next(_numbers)}"
        self._connects = _Connects()
        self._process = os.getpid()
        # By id: a reference would keep a connection alive that a cancelled thread has lost, see _reclaim.
        self._handed_out: set[int] = set()
        self._lost: deque[PooledConnection] = deque()
        self._accounts = threading.Lock()
        self._missing_since: float | None = None
        self._most_there = 0
        self._phantoms = 0
        info = conninfo(settings)
        self.several_hosts = names_several_hosts(info)
        """Whether another server may be the primary when this one is read-only."""
        connection_class: type[PooledConnection] = type(
            "PooledConnection",
            (self._connection_class(),),
            {"connects": self._connects, "lost": self._lost, "settings": settings},
        )
        kwargs: dict[str, Any] = {"autocommit": True}
        if settings.pgbouncer:
            kwargs["prepare_threshold"] = None
        # Proves that the server is there and the login works, and gives the real reason where it does not.
        try:
            connection_class.connect(info, **kwargs).close()
        except psycopg.Error as error:
            raise connection_error(error, settings.database_url) from error
        self._pool: ConnectionPool[PooledConnection] = ConnectionPool(
            info,
            connection_class=connection_class,
            kwargs=kwargs,
            min_size=settings.pool_min_size,
            max_size=settings.pool_size,
            name=self.name,
            timeout=settings.pool_timeout,
            max_idle=settings.pool_max_idle,
            reconnect_timeout=1.0,
            open=False,
        )
        self._give_back: Callable[[Any], None] = self._pool.putconn
        # First in, first out would wake the coldest server process at each call: 30 µs of 80. The pool has no
        # setting for the order; a test watches that this goes on working.
        self._pool._pool = _MostRecentFirst()
        self._pool._waiting = self._queue = _ByArrival()
        start = time.monotonic()
        try:
            self._pool.open(wait=True, timeout=settings.pool_timeout)
        except PoolTimeout as error:
            failure = self._connects.since(start)
            if failure is not None:
                raise connection_error(failure, settings.database_url) from failure
            raise Unavailable(
                f"pool {self.name!r} could not be filled in {settings.pool_timeout} s"
            ) from error

    def _connection_class(self) -> type[PooledConnection]:
        return PooledConnection

    def acquire(self, timeout: float | None = None) -> Connection:
        """A connection, to be given back with `release`. Raises Timeout when all stay busy for `timeout`
        seconds (None: pool_timeout), Unavailable when the server cannot be reached, StoreClosed."""
        pool = self._pool
        # What getconn does when there is an idle connection, in a third of the time.
        if pool._pool and not self._lost and os.getpid() == self._process:
            connection: PooledConnection | None = None
            with pool._lock:
                if pool._pool and not pool._closed:
                    connection = pool._pool.popleft()
                    idle = len(pool._pool)
                    if idle < pool._nconns_min:
                        pool._nconns_min = idle
            if connection is not None:
                pool._stats[pool._REQUESTS_NUM] += 1
                connection._pool = pool
                if self._is_sound(connection):
                    return connection
        return self._wait_for_one(self.settings.pool_timeout if timeout is None else timeout)

    def _is_sound(self, connection: Connection) -> bool:
        connection.handed_out = True
        self._handed_out.add(id(connection))
        idle = time.monotonic() - connection.last_used
        if idle <= self.settings.pool_check_after or _answers(connection, self.settings.connect_timeout):
            return True
        # Not through psycopg_pool's own check, which sleeps for a second after the second dead connection.
        self.release(connection)
        return False

    def _wait_for_one(self, limit: float) -> Connection:
        self._require_own()
        start = self._queue.arrival.since = time.monotonic()
        while True:
            if self._lost:
                self._reclaim()
            left = limit - (time.monotonic() - start)
            try:
                connection = self._pool.getconn(timeout=max(0.001, min(_WAIT_SLICE, left)))
            except PoolClosed as error:
                raise self._closed_error() from error
            except (PoolTimeout, TooManyRequests) as error:
                failure = self._connects.since(start)
                if failure is not None:
                    raise connection_error(failure, self.settings.database_url) from failure
                waited = time.monotonic() - start
                if waited >= limit:
                    raise self._exhausted(waited) from error
                self._replace_missing()
                continue
            if self._is_sound(connection):
                return connection

    def release(self, connection: Connection) -> None:
        """Gives a connection back; a broken one is replaced, one left in a transaction is closed and
        replaced."""
        if connection.in_transaction:
            # The thread was cancelled between BEGIN and COMMIT, and psycopg lost count of where it is.
            connection.close()
            connection.in_transaction = False
        connection.last_used = time.monotonic()
        self._handed_out.discard(id(connection))
        if connection.closed:
            self._give_back(connection)
            connection.handed_out = False
        else:
            # Before: once it is back, another thread may have it at once.
            connection.handed_out = False
            if not self._put_idle(connection):
                self._give_back(connection)

    def _put_idle(self, connection: Connection) -> bool:
        """What putconn does with a connection that is sound and that nobody waits for. False: it is not."""
        pool = self._pool
        if (
            pool._waiting
            or connection._pool is not pool
            or connection.pgconn.transaction_status != TransactionStatus.IDLE
            or connection._expire_at <= connection.last_used
            or connection._created_at <= pool._drained_at
        ):
            return False
        with pool._lock:
            if pool._closed or pool._waiting:
                return False
            connection._pool = None
            pool._pool.append(cast("PooledConnection", connection))
        return True

    def require_open(self) -> None:
        """Raises StoreClosed after close(), and in a process other than the one that opened the pool."""
        self._require_own()
        if self._pool.closed:
            raise self._closed_error()

    def _require_own(self) -> None:
        if os.getpid() != self._process:
            # The parent goes on using these very sockets: two processes on one would mix up their answers.
            raise StoreClosed("the store belongs to the process that opened it: open another after the fork")

    def _exhausted(self, waited: float) -> Timeout:
        return Timeout(
            f"pool {self.name!r} exhausted: no connection became free in {waited:.1f} s, "
            f"{self.in_use()} of {self.settings.pool_size} in use"
        )

    def _closed_error(self) -> StoreClosed:
        return StoreClosed(f"the store is closed (pool {self.name!r})")

    @property
    def closed(self) -> bool:
        """Whether close() was called."""
        return self._pool.closed

    def in_use(self) -> int:
        """Connections handed out now."""
        if self._lost:
            self._reclaim()
        return len(self._handed_out)

    def stats(self) -> dict[str, int]:
        """psycopg_pool's counters (its manual, "Pool stats"), e.g. pool_size, pool_available,
        requests_waiting."""
        stats = self._pool.get_stats()
        stats["pool_size"] -= self._phantoms
        stats["pool_max"] = self.settings.pool_size
        with self._pool._lock:
            # Without those that gave up: psycopg_pool counts them until a connection comes back.
            stats["requests_waiting"] = sum(1 for client in self._pool._waiting if not client.error)
        return stats

    def close(self, timeout: float = 5.0) -> None:
        """Closes all connections; one in use when it is given back. Callers that wait for one get
        StoreClosed."""
        self._pool.close(timeout)

    def _replace_missing(self) -> None:
        """Makes a connection when one is missing: neither idle, nor in use, nor being made.

        A thread cancelled in the midst of psycopg_pool's own accounts leaves it waiting for a connection that
        is not there, or taking itself to be growing, for ever."""
        if not self._accounts.acquire(blocking=False):
            return
        try:
            stats = self._pool.get_stats()
            there = stats["pool_available"] + self.in_use()
            now = time.monotonic()
            if there >= self.settings.pool_size or self._connects.connecting_since(now - 2 * _WAIT_SLICE):
                self._missing_since = None
            elif self._missing_since is None:
                # Look again, and at the most seen of many looks: a connection on its way from one thread to
                # another counts as neither.
                self._missing_since, self._most_there = now, there
            elif now - self._missing_since < _MISSING_FOR:
                self._most_there = max(there, self._most_there)
            else:
                self._missing_since = None
                there = max(there, self._most_there)
                # An exception in a cycle with its own traceback may still hold the connection: that one comes
                # back.
                gc.collect()
                if self._lost:
                    self._reclaim()
                    return
                self._phantoms = max(0, stats["pool_size"] - there)
                least, most = self.settings.pool_min_size, self.settings.pool_size + self._phantoms
                # Asking for one more at least makes one; then as before.
                self._pool.resize(stats["pool_min"] + 1, max(most, stats["pool_min"] + 1))
                self._pool.resize(least, most)
                _log.warning("pool %r replaces a connection that a cancelled thread has lost", self.name)
        finally:
            self._accounts.release()

    def _reclaim(self) -> None:
        # A thread that is cancelled between getting a connection and the `try` that gives it back loses it:
        # psycopg_pool would count it as in use for ever.
        while self._lost:
            try:
                connection = self._lost.popleft()
            except IndexError:  # another thread was quicker
                return
            self._handed_out.discard(id(connection))
            connection.handed_out = False
            connection.close()
            connection._pool = self._pool  # what putconn asks for; lost on the way out, it may not be set yet
            self._pool.putconn(connection)


class _MostRecentFirst(deque[Any]):
    """A stack where psycopg_pool expects a queue."""

    popleft = deque.pop


class _ByArrival(deque[Any]):
    """psycopg_pool's queue of those that wait, by when each came: a wait is made of many, and whoever asks
    again keeps its place."""

    def __init__(self) -> None:
        super().__init__()
        self.arrival = threading.local()

    def append(self, client: Any) -> None:
        since = getattr(self.arrival, "since", math.inf)
        # One step: a thread cancelled in the midst of it leaves the queue as it was, or as it should be.
        bisect.insort(self, (since, client), key=_since)

    def popleft(self) -> Any:
        return super().popleft()[1]

    def __iter__(self) -> Iterator[Any]:
        return (client for _, client in super().__iter__())


def _since(place: tuple[float, Any]) -> float:
    return place[0]


class _Connects:
    """Attempts to connect: the last failed one is the error of whoever waits for a connection."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: tuple[float, psycopg.Error] | None = None
        self._connecting = 0
        self._last_attempt = -math.inf

    @contextmanager
    def attempt(self) -> Generator[None]:
        with self._lock:
            self._connecting += 1
        try:
            yield
        except psycopg.Error as error:
            with self._lock:
                self._last = (time.monotonic(), error)
            raise
        finally:
            with self._lock:
                self._connecting -= 1
                self._last_attempt = time.monotonic()

    def connecting_since(self, moment: float) -> bool:
        """Whether an attempt to connect was under way at any time after that moment."""
        return self._connecting > 0 or self._last_attempt >= moment

    def since(self, moment: float) -> psycopg.Error | None:
        with self._lock:
            return self._last[1] if self._last and self._last[0] >= moment else None


class PooledConnection(Connection):
    connects: _Connects
    lost: deque[PooledConnection]
    settings: Settings
    _pool: ConnectionPool[PooledConnection] | None

    @classmethod
    def connect(cls, conninfo: str = "", **kwargs: Any) -> Self:
        with cls.connects.attempt():
            connection = super().connect(conninfo, **kwargs)
            try:
                connection.limit_waits(cls.settings)
            except BaseException:
                connection.close()
                raise
            return connection

    def __del__(self, *_: object) -> None:
        # Whoever lost it, it goes back to the pool; not from here, since this may run inside the pool's own
        # lock. What the pool discards itself is closed or broken, and not handed out.
        if hasattr(self, "pgconn") and (self.handed_out or not self.closed):
            self.lost.append(self)


def _answers(connection: Connection, seconds: float) -> bool:
    try:
        with connection.limited(seconds):
            ConnectionPool.check_connection(connection)
    except psycopg.Error:
        return False
    return True
