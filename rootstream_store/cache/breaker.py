"""A circuit breaker around what the store itself does on Redis.

After a failed connection or a timeout nobody waits for Redis until `retry_after` has passed; then one caller
alone tries it for all, or sooner one whose attempt is worth a wait. While it is open any other call costs a
microsecond. Deciding is kept apart from doing I/O:
`enter` gives a permit or None, so that blocking and asynchronous callers share it.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from enum import Enum
from typing import Final, Literal, TypeVar

import msgspec
import redis

from rootstream_store.cache._errors import describe_error
from rootstream_store.cache._limits import LIMITS
from rootstream_store.cache._url import safe_url

__all__ = ["UNREACHED", "Breaker", "BreakerCounters", "Permit", "State", "Unreached"]

_T = TypeVar("_T")
_log = logging.getLogger("rootstream_store.cache")
_REFUSAL_LOG_INTERVAL = 60.0
_REFUSAL_TOLD = 10.0
_LONGEST_PROBE = 10.0
"""Seconds after which a probe counts as over, however it ended."""

State = Literal["closed", "open", "half-open"]


class Unreached(Enum):
    """The type of UNREACHED."""

    UNREACHED = "unreached"


UNREACHED: Final = Unreached.UNREACHED
"""The answer of an attempt that failed or was not made. A type of its own, since None is a reply of Redis."""


class BreakerCounters(msgspec.Struct, frozen=True, kw_only=True):
    """Counted since the breaker was made."""

    failures: int
    """Attempts that got no answer: no connection, a lost one, a timeout."""
    refusals: int
    """Attempts that Redis answered with an error (out of memory, no permission)."""
    skipped: int
    """Attempts not made since the breaker was open."""
    opened: int
    """Times the breaker opened."""


class Permit:
    """The right to make one attempt. Ends with `succeeded`, `failed` or `abandoned`."""

    __slots__ = ("_breaker", "probe")

    def __init__(self, breaker: Breaker, probe: bool) -> None:
        self._breaker = breaker
        self.probe = probe
        """True for the one attempt that decides whether an open breaker closes."""

    def succeeded(self) -> None:
        """Redis answered."""
        # Only the probe closes the breaker: a slow answer from before the failure says nothing about now.
        if self.probe:
            self._breaker._close()

    def failed(self, error: BaseException) -> None:
        """No answer came, or an error reply."""
        self._breaker._record(error, self.probe)

    def abandoned(self) -> None:
        """The attempt ended without telling anything about Redis, by KeyboardInterrupt say."""
        if self.probe:
            self._breaker._release_probe()


class Breaker:
    """Thread-safe. `retry_after` in seconds; `url` is only shown, without its password; `clock` in seconds.

    `limit`: an attempt waits for no longer than so many seconds in all. One that took more than three
    quarters of them counts as failed although it was answered: several of them would make a long call.
    `on_read_only` is called when the server turns out to be a replica, and should have it connected to anew:
    what it holds may be behind, so that counts as a failure too.
    """

    def __init__(
        self,
        retry_after: float,
        url: str | None = None,
        clock: Callable[[], float] = time.monotonic,
        *,
        limit: float = math.inf,
        on_read_only: Callable[[], None] | None = None,
    ) -> None:
        self._retry_after = retry_after
        self._url = url
        self._clock = clock
        self._limit = limit
        self._slow = 0.75 * limit
        self._on_read_only = on_read_only
        self._lock = threading.Lock()
        # One for all: it costs every call what it takes to make.
        self._plain = Permit(self, False)
        self._state: State = "closed"
        self._retry_at = self._probe_ends = 0.0
        self._failures = self._refusals = self._skipped = self._opened = 0
        self._last_error: str | None = None
        self._refusal_logged: dict[str, float] = {}
        self._refused_at = -math.inf

    @property
    def state(self) -> State:
        """closed: attempts are made; open: they are not; half-open: one attempt is being made for all."""
        return self._state

    @property
    def last_error(self) -> str | None:
        """The latest failure in one line without secrets. None: none yet."""
        return self._last_error

    @property
    def refuses(self) -> bool:
        """Whether Redis has refused a command in the last ten seconds."""
        return self._clock() - self._refused_at < _REFUSAL_TOLD

    @property
    def counters(self) -> BreakerCounters:
        """What was counted so far."""
        with self._lock:
            return BreakerCounters(
                failures=self._failures,
                refusals=self._refusals,
                skipped=self._skipped,
                opened=self._opened + self._opened_elsewhere(),
            )

    @property
    def open_for(self) -> float:
        """Seconds since the failure that it was opened by, or stayed open by. 0: it is closed."""
        return 0.0 if self._state == "closed" else self._clock() - self._retry_at + self._retry_after

    def enter(self, *, insist: bool = False) -> Permit | None:
        """A permit for one attempt, or None when Redis is not to be tried now.

        `insist`: this attempt is worth a wait, so that it is the next probe even though the breaker has only
        just opened. One probe is under way at a time; the others are not held up.
        """
        if self._state == "closed":
            return self._plain
        with self._lock:
            return self._enter_locked(insist)

    def attempt(
        self, operation: Callable[[], _T], *, insist: bool = False
    ) -> _T | Literal[Unreached.UNREACHED]:
        """What `operation` returns, or UNREACHED when Redis failed, refused or was not tried. Other errors
        pass. `insist`: as in `enter`."""
        permit = self._plain if self._state == "closed" else self.enter(insist=insist)
        if permit is None:
            return UNREACHED
        limits = LIMITS
        end, insisted = limits.end, limits.insist
        started = time.monotonic()
        limits.end, limits.insist = min(end, started + self._limit), insist
        try:
            result = operation()
        except redis.RedisError as error:
            permit.failed(error)
            return UNREACHED
        except BaseException:
            permit.abandoned()
            raise
        finally:
            limits.end, limits.insist = end, insisted
        took = time.monotonic() - started
        if took > self._slow:
            permit.failed(redis.TimeoutError(f"an answer took {took * 1000:.0f} ms"))
        else:
            permit.succeeded()
        return result

    def note_failure(self, error: redis.RedisError) -> None:
        """Redis did not answer, or with this error, where nobody asked for a permit: the breaker was
        closed."""
        self._record(error, probe=False)

    def note_refusal(self, error: redis.RedisError) -> None:
        """Count and log an error that came as one of several replies."""
        self._record(error, probe=False)

    def _opened_elsewhere(self) -> int:
        return 0

    def _enter_locked(self, insist: bool) -> Permit | None:
        if self._state == "closed":
            return Permit(self, False)
        # An exception thrown into a thread just before or after its attempt leaves a probe without an end.
        probing = self._state == "half-open" and self._clock() < self._probe_ends
        if not probing and (insist or self._clock() >= self._retry_at):
            self._state = "half-open"
            self._probe_ends = self._clock() + _LONGEST_PROBE
            return Permit(self, True)
        self._skipped += 1
        return None

    def _close(self) -> None:
        with self._lock:
            recovered = self._state != "closed"
            self._state = "closed"
        if recovered:
            _log.warning("Redis at %s answers again", self._where())

    def _release_probe(self) -> None:
        with self._lock:
            if self._state == "half-open":
                self._state = "open"

    def _count(self, error: BaseException, *, skipped: bool) -> None:
        """Only count it."""
        with self._lock:
            self._last_error = describe_error(error, self._url)
            if skipped:
                self._skipped += 1
            elif isinstance(error, redis.ResponseError):
                self._refusals += 1
            else:
                self._failures += 1

    def _record(self, error: BaseException, probe: bool) -> None:
        if isinstance(error, redis.exceptions.ReadOnlyError) and self._on_read_only is not None:
            self._on_read_only()
        elif isinstance(error, redis.ResponseError):
            # The server answers: connections are well, so the breaker is no help and, after a probe, closes.
            with self._lock:
                self._refusals += 1
            self._log_refusal(error)
            if probe:
                self._close()
            return
        text = describe_error(error, self._url)
        with self._lock:
            self._failures += 1
            self._last_error = text
            first = self._state == "closed"
            if first or probe:
                self._state = "open"
                self._retry_at = self._clock() + self._retry_after
            if first:
                self._opened += 1
        if first:
            _log.warning(
                "Redis at %s failed, answering from PostgreSQL and trying again every %g s: %s",
                self._where(),
                self._retry_after,
                text,
            )

    def _log_refusal(self, error: BaseException) -> None:
        text = describe_error(error, self._url)
        now = self._clock()
        with self._lock:
            self._last_error = text
            self._refused_at = now
            last = self._refusal_logged.get(text)
            if last is not None and now - last < _REFUSAL_LOG_INTERVAL:
                return
            self._refusal_logged[text] = now
        _log.warning("Redis at %s refused a command, answering from PostgreSQL: %s", self._where(), text)

    def _where(self) -> str:
        return safe_url(self._url) if self._url else "an unnamed server"
