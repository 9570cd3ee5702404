"""Carrying out effects: at once, or by the threads for wake-ups and for messages that nobody waits for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from rootstream_store.cache import keys
from rootstream_store.cache._announcer import Announcer
from rootstream_store.cache._wakes import Wakes
from rootstream_store.cache.breaker import UNREACHED, Breaker
from rootstream_store.cache.effects import Effect, Invalidate, Wake, run_effects
from rootstream_store.cache.lease import LeaseCache
from rootstream_store.cache.messages import Announce, Limits
from rootstream_store.cache.wire import Wire

__all__ = ["Runner"]


class Runner:
    """Thread-safe. Never raises because of Redis: what fails is counted, and told where somebody listens.

    `after_call` is called after each use of a connection.
    """

    def __init__(
        self,
        wire: Wire,
        breaker: Breaker,
        lease: LeaseCache,
        *,
        limits: Limits,
        retry_after: float,
        after_call: Callable[[], None],
    ) -> None:
        self.limits = limits
        self._wire = wire
        self._breaker = breaker
        self._lease = lease
        self._after_call = after_call
        self._lost = 0
        self._count_lock = threading.Lock()
        self._wakes = Wakes(self._run_now)
        self._announcer = Announcer(self._send, self._is_there, self._count_lost, retry_after)

    @property
    def lost(self) -> int:
        """Messages and plain values that did not reach Redis. Invalidations are repeated instead."""
        return self._lost

    def run(self, effects: Sequence[Effect]) -> None:
        """Run effects in one round trip."""
        now: list[Effect] = []
        for effect in effects:
            if type(effect) is Wake:
                self._wakes.add(effect)
            elif type(effect) is Announce and effect.soon:
                self._announcer.add(effect)
            else:
                now.append(effect)
        if now:
            self._run_now(now)

    def wake(self, wake: Wake) -> None:
        """Have subscribers woken soon."""
        self._wakes.add(wake)

    def close(self) -> None:
        """Send what waits, and stop the threads. May be repeated."""
        self._wakes.close()
        self._announcer.close()

    def _run_now(self, effects: Sequence[Effect]) -> None:
        failed = run_effects(self._wire, self._breaker, effects, self.limits)
        if failed:
            invalid = [effect.key for effect in failed if isinstance(effect, Invalidate)]
            self._lease.remember(invalid)
            self._count_lost(len(failed) - len(invalid))
            if messages := sum(isinstance(effect, Announce) for effect in failed):
                self._announcer.note_lost(messages)
        self._after_call()

    def _send(self, messages: Sequence[Announce]) -> bool:
        failed = run_effects(self._wire, self._breaker, messages, self.limits)
        self._after_call()
        return not failed

    def _is_there(self) -> bool:
        if self._breaker.state == "closed":
            return True
        # Of a cluster it is the node of the messages that counts.
        asked = self._breaker.attempt(lambda: self._wire.command("EXISTS", keys.MESSAGES))
        self._after_call()
        return asked is not UNREACHED

    def _count_lost(self, count: int) -> None:
        with self._count_lock:
            self._lost += count
