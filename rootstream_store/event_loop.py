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
from functools import partial
from typing import Any, Final, ParamSpec, TypeVar, cast

from greenlet import GreenletExit, getcurrent, greenlet

from rootstream_store.errors import InvalidInput, StoreClosed

__all__ = ["Call", "Home", "compute", "current", "in_thread", "sleep", "wait_for", "wait_readable"]

P = ParamSpec("P")
T = TypeVar("T")

_HASHING: Final = os.cpu_count() or 1
_KEPT: Final = 256
"""Calls that are kept for the next ones, with 16 KiB of stack each."""


class Home:
    """The event loop that a store lives on, and the threads for what would hold it up.

    `threads`: the most at a time for waits that no event loop knows of, Redis and connecting."""

    def __init__(self, threads: int) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._owner = 0
        self._process = os.getpid()
        self._idle: list[Call] = []
        # Apart, so that a storm of logins, each of which keeps a processor busy, does not hold up the others.
        self._waiting = ThreadPoolExecutor(threads, thread_name_prefix="rootstream-wait")
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
            self._owner = threading.get_ident()
        return loop

    async def run(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """What `function` returns, run in a Call. Raises what it raises."""
        if asyncio.get_running_loop() is not self._loop:
            _ = self.loop
        here = getcurrent()
        call = self._idle.pop() if self._idle else Call(self)
        call.parent = here
        # What is set in the task is there in the call, and the other way about.
        call.gr_context = here.gr_context
        waited = call.switch(function, args, kwargs)
        while waited is not _ENDED:
            try:
                answer = await waited
            except BaseException as error:  # noqa: BLE001  # a cancelled task: the call sees it, and may clean up
                waited = call.throw(error)
            else:
                waited = call.switch(answer)
        result, failure = call.result, call.failure
        call.result = call.failure = call.gr_context = None
        if len(self._idle) < _KEPT:
            self._idle.append(call)
        if failure is not None:
            try:
                raise failure
            finally:
                del failure  # it holds this frame by its traceback
        return cast("T", result)

    def in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """What `function` returns, run in a thread. Cancelled, the thread goes on to its end."""
        return _submit(self._waiting, partial(function, *args, **kwargs))

    def compute(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """As `in_thread`, for work that keeps a processor busy."""
        return _submit(self._computing, partial(function, *args, **kwargs))

    def soon(self, function: Callable[[], object]) -> None:
        """Calls `function` on the loop: now where this is its thread, else a moment later; never on a loop
        that has ended."""
        loop = self._loop
        if loop is None or threading.get_ident() == self._owner:
            function()
        elif not loop.is_closed():
            loop.call_soon_threadsafe(function)

    def close(self) -> None:
        """Lets the threads end when they have done what they do. May be repeated."""
        self._waiting.shutdown(wait=False)
        self._computing.shutdown(wait=False)


class Call(greenlet):
    """One call of synchronous code from a coroutine; then the next one, as making a greenlet takes 10 µs."""

    def __init__(self, home: Home) -> None:
        super().__init__(self._serve)
        self.home = home
        self.result: Any = None
        self.failure: BaseException | None = None

    def _serve(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        while True:
            try:
                self.result = function(*args, **kwargs)
            except GreenletExit:
                raise
            except BaseException as error:  # noqa: BLE001  # it is raised where the call was begun
                self.failure = error
            function = args = kwargs = None  # type: ignore[assignment]  # what they hold must not live on here
            function, args, kwargs = self._parent().switch(_ENDED)

    def _parent(self) -> greenlet:
        parent = self.parent
        assert parent is not None  # `run` has set it
        return parent


_ENDED: Final = object()


def current() -> Call | None:
    """The call that this code runs in. None: it is no such code, and may wait by itself."""
    found = getcurrent()
    return found if type(found) is Call else None


def wait_for(awaitable: Awaitable[T]) -> T:
    """What `await awaitable` gives, in code that a Call runs. Raises what that raises."""
    parent = getcurrent().parent
    assert parent is not None  # that of a Call is the coroutine's
    return cast("T", parent.switch(awaitable))


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
    def call() -> T:
        try:
            return function()
        except StopIteration as error:
            # As in a generator. A future cannot hold it: whoever waits would wait for ever.
            raise RuntimeError("StopIteration was raised in a thread") from error

    try:
        future: Future[T] = threads.submit(call)
    except RuntimeError as error:
        raise StoreClosed("the store is closed") from error
    return asyncio.wrap_future(future)
