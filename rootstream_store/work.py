"""Queues of work on Redis: a job whose worker died is handed out again, one that keeps failing is kept aside.

At least once: a worker that takes longer than its lease, or dies after its work and before `done()`, leaves
the job to another. So handling one must be safe to repeat. What must survive the loss of Redis belongs in
PostgreSQL: put it there first, with the same id, and put it into the queue from there.
"""

from __future__ import annotations

import re
import threading
import time
import uuid
from collections.abc import Generator
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, overload

import msgspec

from rootstream_store.cache import Ask, Subscription, check_timeout, work
from rootstream_store.errors import InvalidInput, RootStreamError, Unavailable
from rootstream_store.store import Store

__all__ = ["DeadJob", "Job", "QueueStats", "WorkQueue"]

P = TypeVar("P")
T = TypeVar("T")

_LOOK_UP = 1.0
"""Longest wait without looking, in seconds: a wake-up may be lost."""
_AWAY = 0.2
"""Pause while Redis does not answer, in seconds."""
_LONGEST = 30 * 86400.0


class QueueStats(msgspec.Struct, frozen=True, kw_only=True):
    """How many jobs there are, by what is being done with them."""

    ready: int
    in_hands: int
    """With a worker, alive or not."""
    delayed: int
    """Given back, to be handed out later."""
    dead: int


class DeadJob(msgspec.Struct, frozen=True, kw_only=True):
    """A job that was given up."""

    id: str
    payload: bytes
    """As it was put; JSON where the queue has a type."""
    attempts: int
    error: str
    """What the worker said last."""
    died_at: datetime


class Job(Generic[P]):
    """A job in this worker's hands until its lease ends. One of `done`, `retry` and `failed` ends it."""

    def __init__(self, queue: WorkQueue[P], job_id: str, payload: P, attempt: int, holder: str) -> None:
        self._queue = queue
        self._holder = holder
        self.id = job_id
        self.payload = payload
        self.attempt = attempt
        """1 the first time."""

    def done(self) -> bool:
        """The work is done, and the job gone. False: its lease had ended, so that another worker may have it,
        or it was done before. Raises Unavailable: then it is handed out again after the lease, unless `done`
        is repeated."""
        return self._queue._run(work.done(self._queue.name, self.id, self._holder))

    def retry(self, error: str = "", *, delay: float = 0.0) -> bool:
        """Gives the job back, to be taken again after `delay` seconds; after the last attempt it is dead.
        False: its lease had ended. Raises Unavailable, InvalidInput."""
        queue = self._queue
        pause = _milliseconds("delay", delay, zero=True)
        return queue._run(work.retry(queue.name, self.id, self._holder, pause, queue.attempts, error))

    def failed(self, error: str = "") -> bool:
        """Gives the job up: trying again would not help. False: its lease had ended. Raises Unavailable."""
        return self._queue._run(work.failed(self._queue.name, self.id, self._holder, error))

    def extend(self, lease: float | None = None) -> bool:
        """Keeps the job for `lease` seconds from now; None: for as long as the queue's. False: its lease had
        ended, so that the work should be stopped. Raises Unavailable, InvalidInput."""
        queue = self._queue
        held = _milliseconds("lease", queue.lease if lease is None else lease)
        return queue._run(work.extend(queue.name, self.id, self._holder, held))

    def __repr__(self) -> str:
        return f"<Job {self.id} of {self._queue.name!r}, attempt {self.attempt}>"


class WorkQueue(Generic[P]):
    """A queue by name, used by any number of threads and processes. First in, first out.

    `payload`: a type that msgspec can write as JSON, or None for bytes. `lease`: seconds that a worker has
    for a job. `attempts`: how often it is handed out at most. Use as a context manager, or call `close()`.
    Raises InvalidInput.
    """

    @overload
    def __init__(
        self: WorkQueue[bytes], store: Store, name: str, *, lease: float = 60.0, attempts: int = 5
    ) -> None: ...

    @overload
    def __init__(
        self, store: Store, name: str, payload: type[P], *, lease: float = 60.0, attempts: int = 5
    ) -> None: ...

    def __init__(
        self,
        store: Store,
        name: str,
        payload: type[Any] | None = None,
        *,
        lease: float = 60.0,
        attempts: int = 5,
    ) -> None:
        if not isinstance(name, str) or not re.fullmatch(r"[\w.:-]{1,100}", name, re.ASCII):
            raise InvalidInput("name", "must be 1 to 100 letters, digits, or any of _ . : -", name)
        if type(attempts) is not int or attempts < 1:
            raise InvalidInput("attempts", "must be a whole number of at least 1", attempts)
        _milliseconds("lease", lease)
        self.name = name
        self.lease = lease
        self.attempts = attempts
        self._store = store
        self._encode = None if payload is None else msgspec.json.Encoder().encode
        self._decode = None if payload is None else msgspec.json.Decoder(payload).decode
        self._wakes: Subscription | None = None
        self._opening = threading.Lock()

    def put(self, payload: P, *, job_id: str | None = None) -> str:
        """Puts a job in and returns its id. `job_id`: one of your own, so that putting it again, after an
        Unavailable say, adds nothing while it is in the queue; None: a new one.

        Raises Unavailable when Redis did not answer or refused; it may have the job all the same.
        """
        job = job_id if job_id is not None else uuid.uuid4().hex
        if not isinstance(job, str) or not job.isprintable() or not 1 <= len(job) <= 200:
            raise InvalidInput("job_id", "must be 1 to 200 printable characters", job)
        raw: Any = payload if self._encode is None else self._encode(payload)
        if not isinstance(raw, bytes):
            raise InvalidInput("payload", f"must be bytes, not {type(payload).__name__}")
        self._run(work.put(self.name, job, raw))
        return job

    def take(self, timeout: float | None = 0.0) -> Job[P] | None:
        """The oldest job that is ready, those first whose worker has not finished in time; None when there
        was none for `timeout` seconds. None as timeout: waits until there is one, also while Redis is away.

        A payload that is not of the queue's type makes the job dead. Raises Unavailable when Redis did not
        answer at the end of the wait, and InvalidInput.
        """
        check_timeout(timeout)
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            holder = uuid.uuid4().hex
            lease = _milliseconds("lease", self.lease)
            wait, away = _LOOK_UP, None
            try:
                given = self._run(work.take(self.name, holder, lease, self.attempts))
            except Unavailable as error:
                away = error
            else:
                if given.id is not None:
                    job = self._job(given.id, given.payload, given.attempt, holder)
                    if job is not None:
                        return job
                    continue
                wait = _LOOK_UP if given.wait is None else min(_LOOK_UP, given.wait + 0.001)
            if end is not None:
                wait = min(wait, end - time.monotonic())
                if wait <= 0:
                    if away is not None:
                        raise away
                    return None
            if away is not None:
                time.sleep(min(wait, _AWAY))
            else:
                self._sleep(wait)

    def dead(self, limit: int = 100) -> list[DeadJob]:
        """The jobs that were given up, the last first. Raises Unavailable, InvalidInput."""
        if type(limit) is not int or limit < 1:
            raise InvalidInput("limit", "must be a whole number of at least 1", limit)
        return [
            DeadJob(
                id=job.decode(),
                payload=payload,
                attempts=int(attempts or 0),
                error=(error or b"").decode(errors="replace"),
                died_at=datetime.fromtimestamp(int(died) / 1000, UTC),
            )
            for job, died, payload, attempts, error in self._run(work.dead(self.name, limit))
        ]

    def revive(self, job_id: str) -> bool:
        """Makes a dead job ready again, its attempts forgotten. False: no dead job has this id. Raises
        Unavailable."""
        return self._run(work.revive(self.name, job_id))

    def drop(self, job_id: str) -> bool:
        """Deletes a dead job. False: no dead job has this id. Raises Unavailable."""
        return self._run(work.drop(self.name, job_id))

    def stats(self) -> QueueStats:
        """How many jobs there are. Raises Unavailable."""
        ready, leased, held, dead = self._run(work.stats(self.name))
        return QueueStats(ready=ready, in_hands=held, delayed=leased - held, dead=dead)

    def close(self) -> None:
        """Ends the waiting for wake-ups; jobs in hands stay there. May be repeated."""
        with self._opening:
            wakes, self._wakes = self._wakes, None
        if wakes is not None:
            wakes.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _job(self, job_id: str, raw: bytes, attempt: int, holder: str) -> Job[P] | None:
        payload: Any = raw
        if self._decode is not None:
            try:
                payload = self._decode(raw)
            except msgspec.MsgspecError as error:
                self._run(work.failed(self.name, job_id, holder, f"not of the queue's type: {error}"))
                return None
        return Job(self, job_id, payload, attempt, holder)

    def _sleep(self, seconds: float) -> None:
        """Until something is put, or so long."""
        started = time.monotonic()
        try:
            with self._opening:
                if self._wakes is None or self._wakes.closed:
                    self._wakes = self._store.subscribe(work.waker(self.name))
                    return  # what was put before the subscription was confirmed
                wakes = self._wakes
            wakes.get(seconds)
        except RootStreamError:
            # Without wake-ups we look less often, no more than that.
            time.sleep(max(0.0, min(seconds, _AWAY) - (time.monotonic() - started)))

    def _run(self, ask: Ask[T]) -> T:
        def otherwise() -> Generator[Any, Any, T]:
            yield from ()
            raise Unavailable(
                f"Redis did not answer or refused, so the work queue {self.name!r} cannot be used now",
                outcome_unknown=True,
            )

        return self._store.ask(ask, otherwise)


def _milliseconds(field: str, seconds: float, *, zero: bool = False) -> int:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise InvalidInput(field, "must be a number of seconds", seconds)
    if not (0 if zero else 0.001) <= seconds <= _LONGEST:
        least = "0" if zero else "0.001"
        raise InvalidInput(field, f"must be from {least} to {_LONGEST:.0f} seconds", seconds)
    return int(seconds * 1000)
