"""The store: one object a process opens, from which all threads call the repositories."""

from __future__ import annotations

import copy
import logging
import math
import random
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

import msgspec
import psycopg

from rootstream_store import event_loop
from rootstream_store._flushes import Flushes
from rootstream_store._invalidations import Invalidations
from rootstream_store.batch import Batch
from rootstream_store.cache import (
    MISSING,
    NEGATIVE,
    UNREACHED,
    Ask,
    Cache,
    Effect,
    Invalidate,
    Unreached,
    Wake,
)
from rootstream_store.database import (
    READ_ONLY,
    Connection,
    Pool,
    copy_rows,
    execute,
    fetch_all,
    fetch_up_to_one,
)
from rootstream_store.db import CachedQuery, Db
from rootstream_store.errors import Conflict, InvalidInput, NotFound, RootStreamError, Unavailable
from rootstream_store.flow import drive
from rootstream_store.queries import Query
from rootstream_store.settings import Settings
from rootstream_store.transaction import (
    Observer,
    Transaction,
    begin,
    invalidations,
    isolation_level,
    run_transaction,
)

if TYPE_CHECKING:
    import redis

    from rootstream_store.cache import Feed, Subscription
    from rootstream_store.health import Health

__all__ = ["Store"]

R = TypeVar("R")
T = TypeVar("T")

_log = logging.getLogger("rootstream_store")


class Store(Db):
    """A pool of PostgreSQL connections and a Redis client behind the verbs of Db. Safe for all threads.

    Each call is one statement, committed by itself. `with store.transaction() as tx:` makes several one. Use
    as a context manager, or call `close()`.
    """

    def __init__(self, settings: Settings) -> None:
        """Opens the store; see `open`."""
        self.settings = settings
        self._cache = self._open_cache(settings)
        try:
            self._pool = self._open_pool(settings)
        except BaseException:
            self._cache.close()
            raise
        self._invalidations = Invalidations(self._pool, self._cache)
        self._flushes = Flushes()
        self._observe: Observer = _unobserved
        self._on_close: list[Callable[[], None]] = []
        self._later: list[Effect] | None = None
        """Where effects wait, in the copy of a store that a flow runs on. None: they are run at once."""

    def _open_cache(self, settings: Settings) -> Cache:
        return Cache(settings)

    def _open_pool(self, settings: Settings) -> Pool:
        return Pool(settings)

    @classmethod
    def open(cls, database_url: str | None = None, redis_url: str | None = None, **settings: Any) -> Self:
        """A store on running servers. The URLs default to DATABASE_URL and REDIS_URL; other keywords are the
        fields of Settings. Without a redis_url every answer comes from PostgreSQL.

        Raises SettingsError for a setting that cannot work, Unavailable when PostgreSQL cannot be reached,
        PermissionDenied when it refuses the login. A Redis that is down is told by `health()`, not raised.
        """
        return cls(Settings.create(database_url=database_url, redis_url=redis_url, **settings))

    @classmethod
    def embedded(cls, path: Path | str | None = None, **settings: Any) -> Self:
        """A store on its own PostgreSQL and Valkey, started now, migrated, and stopped by `close()`.

        `path`: where the data live; None: in a temporary directory, deleted at the end. Needs the extra
        `embedded`. Raises SettingsError when the servers are not installed or another process uses `path`.
        """
        from rootstream_store import migrations
        from rootstream_store.embedded import EmbeddedServers

        servers = EmbeddedServers.start(Path(path) if path is not None else None)
        try:
            migrations.apply(servers.database_url)
            store = cls.open(servers.database_url, servers.redis_url, **settings)
        except BaseException:
            servers.stop()
            raise
        store._on_close.append(servers.stop)
        return store

    def close(self, timeout: float = 5.0) -> None:
        """Closes all connections; calls that wait for one raise StoreClosed. Closing twice does nothing.

        `timeout`: how many seconds to wait at most for the pool's threads, which may be connecting."""
        with ExitStack() as stack:  # whatever one of them raises, the others are closed too
            while self._on_close:
                stack.callback(self._on_close.pop(0))
            stack.callback(self._invalidations.close)
            stack.callback(self._cache.close)
            stack.callback(self._pool.close, timeout)
            stack.callback(self._invalidations.stop)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Store {self.settings!r}>"

    # --- the verbs of Db

    def one(self, query: Query[R], /, **params: object) -> R:
        found = self._perform(fetch_up_to_one, query, params)
        if not found:
            raise NotFound(query.entity, query.key(params), query=query.file)
        return found[0]

    def maybe(self, query: Query[R], /, **params: object) -> R | None:
        found = self._perform(fetch_up_to_one, query, params)
        return found[0] if found else None

    def one_or(
        self,
        query: Query[R],
        otherwise: Callable[[Unavailable | None], Generator[Any, Any, R]],
        effect: Callable[[R], Effect] | None = None,
        /,
        **params: object,
    ) -> R:
        lost: Unavailable | None = None
        found: tuple[R, ...] = ()
        try:
            found = self._perform(fetch_up_to_one, query, params)
        except Unavailable as error:
            if not error.outcome_unknown:
                raise
            lost = error
        if not found:
            return self.flow(otherwise(lost))
        if effect is not None and self._cache.enabled:
            self.after_commit(effect(found[0]))
        return found[0]

    def all(self, query: Query[R], /, **params: object) -> list[R]:
        return self._perform(fetch_all, query, params)

    def run(self, query: Query[Any], /, **params: object) -> int:
        return self._perform(_execute_and_count, query, params)

    @contextmanager
    def stream(self, query: Query[R], /, *, size: int = 1000, **params: object) -> Generator[Iterator[R]]:
        with self.transaction() as transaction, transaction.stream(query, size=size, **params) as rows:
            yield rows

    def copy(self, query: Query[None], rows: Iterable[Sequence[object]], types: Sequence[str]) -> int:
        # Not tried again: `rows` may be an iterator, and some of it is consumed.
        with self._connection() as connection:
            return self._observe(query.name, lambda: copy_rows(connection, query, rows, types))  # type: ignore[no-any-return]  # hands through

    @contextmanager
    def batch(self) -> Generator[Batch]:
        batch = Batch()
        yield batch
        if batch:
            self._attempt("batch", lambda: self._on_a_connection(batch.send))

    @property
    def has_cache(self) -> bool:
        return self._cache.enabled

    def cached(self, query: CachedQuery[R], /, **params: object) -> R | None:
        query.query.check(params)
        self._pool.require_open()
        if self._cache.enabled:
            sweep = self._invalidations
            if not sweep.is_ready and not sweep.begin():
                return self.maybe(query.query, **params)
            if sweep.is_resting:
                sweep.wake()
        key = query.key(**params)
        near = self._cache.near
        ticket = None
        if near is not None:
            kept = near.get(key)
            if kept is not MISSING:
                return kept  # type: ignore[no-any-return]  # what was put under this key below
            ticket = near.ticket(key)
        record: Any = query.query.record

        def load() -> tuple[bytes | None, float]:
            found = self.maybe(query.query, **params)
            return (None, query.ttl) if found is None else (msgspec.json.encode(found), query.life(found))

        answer, is_hit = self._cache.fetch(key, load)
        try:
            found: R | None = None if answer is None else msgspec.json.decode(answer, type=record)
        except msgspec.MsgspecError as error:
            # Of another version of this library, or somebody else's: the truth is in PostgreSQL.
            _log.warning("%s does not hold a %s: %s", key.partition(":")[0], query.query.entity, error)
            self._cache.end_write([key])
            return self.maybe(query.query, **params)
        if near is not None and ticket is not None and is_hit:
            life = NEGATIVE if found is None else query.life(found)
            near.put(ticket, key, found, size=len(answer or b""), life=life)
        return found

    def ask(self, ask: Ask[T], otherwise: Callable[[], Generator[Any, Any, T]]) -> T:
        self._pool.require_open()
        answer = self._cache.ask(ask)
        return self.flow(otherwise()) if answer is UNREACHED else answer

    def ask_all(self, asks: Sequence[Ask[T]]) -> list[T | Literal[Unreached.UNREACHED]]:
        self._pool.require_open()
        return self._cache.ask_all(asks)

    def after_commit(self, *effects: Effect) -> None:
        if len(effects) == 1 and type(effects[0]) is Wake:  # after every append: it must cost nothing
            self._cache.wake(effects[0])
            return
        try:
            self._cache.end_write([effect.key for effect in effects if isinstance(effect, Invalidate)])
        finally:  # also when the task was cancelled meanwhile
            self._run([effect for effect in effects if not isinstance(effect, Invalidate)])

    def _run(self, effects: list[Effect]) -> None:
        if self._later is None:
            self._cache.run(effects)
        else:
            self._later += effects

    def flow(
        self, steps: Generator[Any, Any, T], *, atomic: bool = False, invalidates: Sequence[str] = ()
    ) -> T:
        if atomic:
            with self.transaction() as transaction:
                return transaction.flow(steps, invalidates=invalidates)
        if invalidates == ():
            return drive(self, steps)
        keys = [effect.key for effect in invalidations(invalidates)]
        if not keys:
            return drive(self, steps)
        self._cache.begin_write(keys)
        writing = copy.copy(self)
        effects: list[Effect] = []
        writing._later = effects
        try:
            return drive(writing, steps)
        finally:
            try:
                # Also after an error, when nobody may know whether the change was applied: dropping is safe.
                self._cache.end_write(keys)
            finally:
                # Only now, so that whoever is woken reads what is new; and where the removal has just waited
                # for Redis in vain, these do not wait once more.
                self._run(effects)

    @contextmanager
    def transaction(self, *, isolation: str | None = None) -> Generator[Transaction]:
        """All of the block or none of it: `with store.transaction() as tx: streams.start(tx, …)`.

        `isolation`: None for the server's default, or "read committed", "repeatable read", "serializable". An
        error rolls back and is raised as it was. Unavailable with `outcome_unknown` when the connection was
        lost during the commit.
        """
        with self._transaction(isolation, None) as transaction:
            yield transaction

    # --- more than Db

    def transact(
        self, work: Callable[[Transaction], T], *, isolation: str | None = None, deadline: float | None = None
    ) -> T:
        """Runs `work` in a transaction and, when the failure is one that a retry can help (a serialization
        failure, a deadlock, a lost connection before the commit), runs all of it again, for at most
        `deadline` seconds (default retry_deadline). `work` may run several times: it must have no effect but
        through its transaction. A server that is read-only is asked twice only, unless the connection string
        names others. Raises InvalidInput for a deadline that is no number."""
        if deadline is not None and (type(deadline) not in (int, float) or math.isnan(deadline)):
            raise InvalidInput("deadline", "must be a number of seconds", deadline)

        def attempt() -> T:
            with self._transaction(isolation, 0) as transaction:
                return work(transaction)

        return self._retrying(attempt, (Conflict, Unavailable), deadline)

    @property
    def redis(self) -> redis.Redis:
        """The plain redis-py client, with this library's time limits; raises redis-py's own errors. Raises
        SettingsError without a redis_url."""
        return self._cache.redis

    def subscribe(self, *channels: str, patterns: Sequence[str] = ()) -> Subscription:
        """Messages published to `channels` or to channels that match `patterns` (glob), as an iterator, on a
        connection of its own. Only messages sent while subscribed arrive; a Gap in between says that some may
        be missing."""
        return self._cache.subscribe(*channels, patterns=patterns)

    def feed(self, since: str | datetime | None = None) -> Feed:
        """The messages of the capped stream as they are in Redis: what `rootstream_store.live` reads."""
        return self._cache.feed(since)

    def observe(self, observer: Observer | None) -> None:
        """Has `observer` called with the name and the work of each query from now on; it runs the work and
        returns what that returns. One at a time: None takes it away. `rootstream_store.metrics` measures this
        way."""
        self._observe = _unobserved if observer is None else observer

    def sweep_invalidations(self) -> int:
        """Removes from Redis what committed changes made untrue, as a thread of this store does twice a
        second while its cache is in use; returns how many invalidations. Without Redis, or when it does not
        answer: 0, and they wait."""
        return self._invalidations.sweep()

    def health(self) -> Health:
        """Whether both servers answer, how the pool and the cache are doing, and whether migrations are
        pending."""
        from rootstream_store.health import check

        return check(self._pool, self._cache, self._flushes)

    @contextmanager
    def _connection(self) -> Generator[Connection]:
        connection = self._pool.acquire()
        try:
            yield connection
        finally:
            self._pool.release(connection)

    @contextmanager
    def _transaction(self, isolation: str | None, deadline: float | None) -> Generator[Transaction]:
        level = isolation_level(isolation)

        def start() -> tuple[Connection, psycopg.Transaction]:
            connection = self._pool.acquire()
            try:
                return connection, begin(connection, level)
            except BaseException:
                self._pool.release(connection)
                raise

        # A connection that was lost while it lay in the pool is found here, where nothing was done yet.
        connection, block = self._retrying(start, (Unavailable,), deadline)
        try:
            with run_transaction(connection, block, self._cache, self._observe) as transaction:
                yield transaction
        finally:
            self._pool.release(connection)

    def _perform(
        self,
        action: Callable[[Connection, Query[R], Mapping[str, object]], T],
        query: Query[R],
        params: dict[str, object],
    ) -> T:
        query.check(params)
        observe = self._observe
        try:
            if observe is _unobserved:  # not through a function of its own: this is the path of every call
                return self._once(action, query, params)
            return observe(query.name, lambda: self._once(action, query, params))  # type: ignore[no-any-return]  # hands through
        except (Conflict, Unavailable) as error:
            failure = error
        return self._again(query.name, lambda: self._once(action, query, params), failure)

    def _once(
        self,
        action: Callable[[Connection, Query[R], Mapping[str, object]], T],
        query: Query[R],
        params: dict[str, object],
    ) -> T:
        connection = self._pool.acquire()
        try:
            return action(connection, query, params)
        finally:
            self._pool.release(connection)

    def _on_a_connection(self, action: Callable[[Connection], T]) -> T:
        with self._connection() as connection:
            return action(connection)

    def _attempt(self, name: str, attempt: Callable[[], T]) -> T:
        try:
            return self._observe(name, attempt)  # type: ignore[no-any-return]  # hands through
        except (Conflict, Unavailable) as error:
            failure = error
        return self._again(name, attempt, failure)

    def _again(self, name: str, attempt: Callable[[], T], failure: Conflict | Unavailable) -> T:
        # Retryable here means that nothing was applied: a read, a write that was never done, or one that was
        # rolled back for another.
        if not failure.retryable or not self.settings.retry_deadline:
            raise failure
        return self._retrying(  # type: ignore[no-any-return]  # hands through
            lambda: self._observe(name, attempt),
            (Conflict, Unavailable),
            None,
            read_only=failure.sqlstate == READ_ONLY,
        )

    def _retrying(
        self,
        attempt: Callable[[], T],
        kinds: tuple[type[RootStreamError], ...],
        deadline: float | None,
        *,
        read_only: bool = False,
    ) -> T:
        # `read_only`: a connection has been found to be read-only already. One may be left from before a
        # failover; a second one means that the server is, and only another server would help.
        end = time.monotonic() + (self.settings.retry_deadline if deadline is None else deadline)
        pause = 0.005
        while True:
            try:
                return attempt()
            except kinds as error:
                left = end - time.monotonic()
                if not error.retryable or left <= 0:
                    raise
                if error.sqlstate == READ_ONLY and not self._pool.several_hosts:
                    if read_only:
                        raise
                    read_only = True
                _log.warning("trying again after %s: %s", type(error).__name__, error)
            # Jitter, so that all who failed together do not come back together.
            event_loop.sleep(min(left, random.uniform(pause, 3 * pause)))
            pause = min(0.2, pause * 2)


def _execute_and_count(connection: Connection, query: Query[Any], params: Mapping[str, object]) -> int:
    return execute(connection, query, params).count


def _unobserved(_: str, action: Callable[[], T]) -> T:
    return action()
