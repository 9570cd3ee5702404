"""Synchronous code on an event loop: where it would wait, its task waits instead and the loop goes on.

Each call runs in a greenlet (https://greenlet.readthedocs.io). Its waits, which all go through `wait_for`,
hand what they wait for to the coroutine that began the call. So a call does the same steps in the same order
with asyncio as without, and what was tested there holds here: a cancelled task is to it what Ctrl-C is.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import Any, Final, ParamSpec, TypeVar, cast

from greenlet import GreenletExit, getcurrent, greenlet

from rootstream_store.errors import InvalidInput, StoreClosed

__all__ = [
    "Call",
    "Home",
    "breathe",
    "compute",
    "current",
    "finish",
    "in_own_thread",
    "in_thread",
    "is_abandoned",
    "load",
    "sleep",
    "wait_for",
    "wait_readable",
]

P = ParamSpec("P")
T = TypeVar("T")

_HASHING: Final = os.cpu_count() or 1
_KEPT: Final = 256
"""Calls that are kept for the next ones, with 16 KiB of stack each."""
_SLICE: Final = 0.01
"""Seconds that a call works at most before others come to their turn, where it could go on at once."""


class Home:
    """The event loop that a store lives on, and the threads for what would hold it up.

    `threads`: the most at a time for waits that no event loop knows of and that are short, such as those for
    Redis; `loads`: for those that may wait for a connection."""

    def __init__(self, threads: int, loads: int) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._owner = 0
        self._process = os.getpid()
        self._idle: list[Call] = []
        # Three of them, since one kind must not wait for another: whoever has a connection may need Redis to
        # give it back, and a storm of logins keeps processors busy.
        self._waiting = ThreadPoolExecutor(threads, thread_name_prefix="rootstream-wait")
        self._loading = ThreadPoolExecutor(loads, thread_name_prefix="rootstream-load")
        self._computing = ThreadPoolExecutor(_HASHING, thread_name_prefix="rootstream-compute")

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop of the first call. Raises InvalidInput on another loop than that, StoreClosed in a forked
        process."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            if self._process != os.getpid():
                raise StoreClosed(
                    "the store belongs to the process that opened it: open another after the fork"
                )
            if self._loop is not None:
                raise InvalidInput("store", "belongs to another event loop: open one for each loop")
            self._loop = loop
        return loop

    async def run(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """What `function` returns, run in a Call. Raises what it raises."""
        if asyncio.get_running_loop() is not self._loop or threading.get_ident() != self._owner:
            self._settle()
        here = getcurrent()
        call = self._idle.pop() if self._idle else Call.begun()
        call.home = self
        call.parent = here
        # What is set in the task is there in the call, and the other way about.
        call.gr_context = here.gr_context
        waited = call.switch(function, args, kwargs)
        while waited is not _ENDED:
            try:
                answer = await waited
            except GeneratorExit as error:
                # This coroutine is thrown away and can wait for nothing any more. In the thread of another
                # loop, which the garbage collector may be in, the call ends when its own comes by.
                if threading.get_ident() == self._owner:
                    call.throw(error)
                raise
            except BaseException as error:  # noqa: BLE001  # a cancelled task: the call sees it, and may clean up
                waited = call.throw(error)
            else:
                waited = call.switch(answer)
        result, failure = call.result, call.failure
        call.result = call.failure = call.gr_context = None
        del call.home  # which holds it, while it is idle
        if len(self._idle) < _KEPT:
            self._idle.append(call)
        if failure is not None:
            try:
                raise failure
            finally:
                del failure  # it holds this frame by its traceback
        return cast("T", result)

    def abandon(self, function: Callable[..., object], /, *args: Any) -> None:
        """Has `function` end what a task has left that was thrown away with its loop. Its connection is
        closed rather than waited for; what it raises is dropped, as there is nobody to see it."""
        call = Call.begun()
        call.home = self
        call.is_abandoned = True
        call.switch(function, args, {})

    def _settle(self) -> None:
        _ = self.loop
        # A loop may be run by one thread after another, a greenlet may not.
        self._idle.clear()
        self._owner = threading.get_ident()

    def in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """What `function` returns, run in a thread. Cancelled, a thread that has begun goes on to its end."""
        return _submit(self._waiting, partial(function, *args, **kwargs))

    def load(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """As `in_thread`, for what may wait for a connection."""
        return _submit(self._loading, partial(function, *args, **kwargs))

    def compute(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """As `in_thread`, for work that keeps a processor busy."""
        return _submit(self._computing, partial(function, *args, **kwargs))

    def soon(self, function: Callable[[], object]) -> None:
        """Calls `function` on the loop: now where this is its thread, else a moment later; never on a loop
        that has ended."""
        loop = self._loop
        if loop is not None and loop.is_closed():
            return
        if loop is None or threading.get_ident() == self._owner:
            function()
        else:
            with suppress(RuntimeError):  # it has ended since
                loop.call_soon_threadsafe(function)

    def close(self) -> None:
        """Lets the threads end when they have done what they do. May be repeated. What still runs goes on, in
        threads of the loop where it needs some."""
        for threads in (self._waiting, self._loading, self._computing):
            threads.shutdown(wait=False)


class Call(greenlet):
    """One call of synchronous code from a coroutine; then the next one, as making a greenlet takes 10 µs."""

    home: Home
    """While it runs."""

    def __init__(self) -> None:
        super().__init__(_serve)
        self.result: Any = None
        self.failure: BaseException | None = None
        self.is_abandoned = False
        """It must come to its end, and can wait for nothing."""
        self.resumed = 0.0
        """When it last went on after a wait, by time.monotonic."""

    @classmethod
    def begun(cls) -> Call:
        """One that waits for what to call."""
        call = cls()
        call.switch()
        return call


def _serve() -> None:
    # Between two calls nothing here may hold the greenlet, or what a call was about: one that is suspended is
    # not garbage to the collector, and would never go. It would hold what it was started with, too: nothing.
    parent = _leave(None, None)
    while True:
        function, args, kwargs = parent.switch(_ENDED)
        try:
            parent = _leave(function(*args, **kwargs), None)
        except GreenletExit:
            raise
        except BaseException as error:  # noqa: BLE001  # it is raised where the call was begun
            parent = _leave(None, error)
        del function, args, kwargs


def _leave(result: object, failure: BaseException | None) -> greenlet:
    call = cast("Call", getcurrent())
    call.result, call.failure = result, failure
    parent = call.parent
    assert parent is not None  # `run` has set it
    return parent


_ENDED: Final = object()


def current() -> Call | None:
    """The call that this code runs in. None: it is no such code, or its task is gone; it waits by itself."""
    found = getcurrent()
    return found if type(found) is Call and not found.is_abandoned else None


def is_abandoned() -> bool:
    """Whether this code runs in a call whose task is gone."""
    found = getcurrent()
    return type(found) is Call and found.is_abandoned


def wait_for(awaitable: Awaitable[T]) -> T:
    """What `await awaitable` gives, in code that a Call runs. Raises what that raises."""
    call = cast("Call", getcurrent())
    parent = call.parent
    assert parent is not None  # that of a Call is the coroutine's
    try:
        return cast("T", parent.switch(awaitable))
    except (GeneratorExit, GreenletExit):
        call.is_abandoned = True
        raise
    finally:
        call.resumed = time.monotonic()


def breathe() -> None:
    """Lets other tasks run where this call has worked for long without a wait."""
    call = current()
    if call is not None and time.monotonic() - call.resumed > _SLICE:
        wait_for(asyncio.sleep(0))


def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `function` returns; in a Call it runs in a thread, and the loop goes on meanwhile."""
    call = current()
    if call is None:
        return function(*args, **kwargs)
    return wait_for(call.home.in_thread(function, *args, **kwargs))


def wait_readable(file: int, timeout: float) -> None:
    """Returns when there is something to read. In a Call only. Raises TimeoutError after `timeout`
    seconds."""
    call = current()
    assert call is not None
    loop = call.home.loop
    ready: asyncio.Future[None] = loop.create_future()
    timer = loop.call_later(timeout, _finish, ready, TimeoutError())
    loop.add_reader(file, _finish, ready, None)
    try:
        wait_for(ready)
    finally:
        loop.remove_reader(file)
        timer.cancel()


def _finish(future: asyncio.Future[None], error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)


def in_own_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
    """What `function` returns, begun at once, however many threads there are."""
    threads = ThreadPoolExecutor(1, thread_name_prefix="rootstream-own")
    try:
        return threads.submit(function, *args, **kwargs)
    finally:
        threads.shutdown(wait=False)


def finish(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """As `in_thread`, for what must be done: a task that is cancelled meanwhile ends after it."""
    call = current()
    if call is None:
        return function(*args, **kwargs)
    done = call.home.in_thread(function, *args, **kwargs)
    cancelled: asyncio.CancelledError | None = None
    while not done.done():
        try:
            wait_for(asyncio.wait([done]))
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is None:
        return done.result()
    done.exception()  # looked at, so that nobody complains
    try:
        raise cancelled
    finally:
        del cancelled  # it holds this frame by its traceback


def load(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """As `in_thread`, for what may wait for a connection."""
    call = current()
    if call is None:
        return function(*args, **kwargs)
    return wait_for(call.home.load(function, *args, **kwargs))


def sleep(seconds: float) -> None:
    """Waits so long; in a Call the loop goes on meanwhile."""
    if current() is None:
        time.sleep(seconds)
    else:
        wait_for(asyncio.sleep(seconds))


def compute(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """As `in_thread`, for work that keeps a processor busy, such as a password hash."""
    call = current()
    if call is None:
        return function(*args, **kwargs)
    return wait_for(call.home.compute(function, *args, **kwargs))


def _submit(threads: ThreadPoolExecutor, function: Callable[[], T]) -> asyncio.Future[T]:
    # What is set in the task is there in the thread, for an observer say.
    context = copy_context()

    def call() -> T:
        try:
            return context.run(function)
        except StopIteration as error:
            # As in a generator. A future cannot hold it: whoever waits would wait for ever.
            raise RuntimeError("StopIteration was raised in a thread") from error

    try:
        future: Future[T] = threads.submit(call)
    except RuntimeError:
        # Closed, and this is of a call that was under way then: a commit still removes its keys.
        try:
            return asyncio.get_running_loop().run_in_executor(None, call)
        except RuntimeError as error:
            raise StoreClosed("the store is closed") from error
    return asyncio.wrap_future(future)
