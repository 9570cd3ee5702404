"""The cache of a store on an event loop: what waits for Redis does so in a thread.

A cancelled task leaves its thread to finish, so that no connection is ever left with half a reply. What
belongs to a write is done before the cancellation is raised: its keys are removed, its messages are sent.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Literal, TypeVar

import redis

from rootstream_store import event_loop
from rootstream_store.cache.breaker import UNREACHED, Unreached
from rootstream_store.cache.cache import Cache
from rootstream_store.cache.effects import Effect, Wake
from rootstream_store.cache.lease import Load, Missed
from rootstream_store.cache.messages import Announce
from rootstream_store.cache.wire import Ask, Command
from rootstream_store.event_loop import current, finish, in_thread, wait_readable

__all__ = ["LoopCache"]

R = TypeVar("R")
T = TypeVar("T")


class LoopCache(Cache):
    """For the calls on one event loop, and for threads as well."""

    def fetch(self, key: str, load: Load) -> tuple[bytes | None, bool]:
        """As Cache.fetch. A hit, as most are, needs no thread; `load` is called in one."""
        if not self.enabled or current() is None:
            return super().fetch(key, load)
        hit = self._lease.peek(key, self._get)
        if hit is not None:
            self._after_call()
            return hit
        # Not behind those that wait for PostgreSQL.
        found = in_thread(super().look, key)
        return (event_loop.load(super().load, found, load), False) if isinstance(found, Missed) else found

    def _get(self, name: bytes) -> Any:
        if self._breaker.state != "closed" or (connection := self._wire.take_idle()) is None:
            return UNREACHED
        is_clean = False
        try:
            # Without a question before it whether the server is well, which would be waited for here.
            connection.send_command("GET", name, check_health=False)
            wait_readable(connection._sock.fileno(), self._timeout)
            reply = connection.read_response()
            is_clean = True
        except TimeoutError:
            error: redis.RedisError = redis.TimeoutError(f"no answer in {self._timeout:g} s")
        except redis.RedisError as raised:
            error, is_clean = raised, isinstance(raised, redis.ResponseError)
        else:
            return reply
        finally:
            self._wire.give_back(connection, is_clean)
        self._breaker.note_failure(error)
        return UNREACHED

    def begin_write(self, cached: Collection[str]) -> None:
        """As Cache.begin_write."""
        if cached:
            self._finish(super().begin_write, cached)

    def end_write(self, cached: Collection[str]) -> None:
        """As Cache.end_write."""
        if cached:
            self._finish(super().end_write, cached)

    def drop(self, cached: Iterable[str]) -> list[str]:
        """As Cache.drop."""
        return self._finish(super().drop, list(cached))

    def recheck(self) -> None:
        """As Cache.recheck."""
        self._away(super().recheck)

    def run(self, effects: Sequence[Effect]) -> None:
        """As Cache.run."""
        # What other threads send costs nothing here.
        if all(type(effect) is Wake or (type(effect) is Announce and effect.soon) for effect in effects):
            super().run(effects)
        else:
            self._finish(super().run, effects)

    def ask(self, ask: Ask[T]) -> T | Literal[Unreached.UNREACHED]:
        """As Cache.ask."""
        return self._away(super().ask, ask)

    def ask_all(self, asks: Sequence[Ask[T]]) -> list[T | Literal[Unreached.UNREACHED]]:
        """As Cache.ask_all."""
        return self._away(super().ask_all, asks)

    def read(self, commands: Sequence[Command]) -> list[Any] | Literal[Unreached.UNREACHED]:
        """As Cache.read."""
        return self._away(super().read, commands)

    def _away(self, method: Callable[..., R], *args: Any) -> R:
        return in_thread(method, *args) if self.enabled else method(*args)

    def _finish(self, method: Callable[..., R], *args: Any) -> R:
        return finish(method, *args) if self.enabled else method(*args)
