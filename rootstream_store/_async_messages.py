"""Messages awaited on an event loop: what a subscription gives, without a thread that waits for it.

The loop watches the subscription's socket. When something has come, or it is time to look, a thread reads
without waiting; so one subscription costs a connection, and a thread only for moments.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from rootstream_store.cache import check_timeout
from rootstream_store.event_loop import Home, in_own_thread

__all__ = ["AsyncMessages", "Source"]

T = TypeVar("T")
Item = TypeVar("Item", covariant=True)


class Source(Protocol[Item]):
    """What is read from: a subscription of live messages, of channels, or to a state."""

    @property
    def closed(self) -> bool:
        """Whether close() was called, or the store closed."""

    def get(self, timeout: float | None = None) -> Item | None:
        """The next one, or None when none came in time."""

    def fileno(self) -> int | None:
        """The socket on which something will come. None: there is none at present."""

    def due(self) -> float:
        """In how many seconds to look again, where nothing comes."""

    def close(self) -> None:
        """Ends it."""


class AsyncMessages(AbstractAsyncContextManager["AsyncMessages[T]"], AsyncIterator[T], Generic[T]):
    """An iterator of messages: `async with live.subscribe(…) as messages: async for message in messages:`.

    A task that is cancelled while it waits loses no message: the next `get` has it. Several tasks may read:
    each message goes to one of them. Ends with `close()`, the block, and the store.
    """

    def __init__(self, home: Home, open_source: Callable[[], Source[T]]) -> None:
        self._home = home
        self._open = open_source
        self._source: Source[T] | None = None
        self._turn = asyncio.Lock()
        self._reading: asyncio.Future[T | None] | None = None
        """A look that is under way, or whose answer nobody has had yet."""

    @property
    def closed(self) -> bool:
        """Whether it has ended, or not begun."""
        return self._source is None or self._source.closed

    async def get(self, timeout: float | None = None) -> T | None:
        """The next message; None when none came in `timeout` seconds (None: no limit) or it has ended.

        Raises what the `get` of the same subscription without asyncio does."""
        check_timeout(timeout)
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        try:
            async with asyncio.timeout_at(deadline) as limit, self._turn:
                while (found := await self._look()) is None:
                    if self.closed or (deadline is not None and loop.time() >= deadline):
                        return None
                    await self._wait()
                return found
        except TimeoutError:
            if not limit.expired():
                raise
            return None

    async def __anext__(self) -> T:
        found = await self.get()
        if found is None:
            raise StopAsyncIteration
        return found

    async def close(self) -> None:
        """End it. A task that waits stops at once. May be repeated."""
        if self._source is not None:
            await asyncio.shield(asyncio.wrap_future(in_own_thread(self._source.close)))

    async def __aenter__(self) -> Self:
        _ = self._home.loop
        opening = in_own_thread(self._open)
        try:
            self._source = await asyncio.shield(asyncio.wrap_future(opening))
        except BaseException:
            # The thread goes on, and nobody would close what it opens.
            opening.add_done_callback(_close_unused)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _look(self) -> T | None:
        if self._source is None or self._source.closed:
            return None
        if self._reading is None:
            self._reading = self._home.in_thread(self._source.get, 0.0)
        reading = self._reading
        # Cancelled here, what the thread has read is for whoever looks next.
        await asyncio.wait([reading])
        self._reading = None
        return reading.result()

    async def _wait(self) -> None:
        """Until something has come, or it is time to look."""
        assert self._source is not None
        seconds = self._source.due()
        try:
            number = self._source.fileno()
            # One of our own: it stays what it is when a thread closes the other, whose number may be used
            # again.
            watched = None if number is None else os.dup(number)
        except OSError:  # closed just now
            watched = None
        if watched is None:
            await asyncio.sleep(min(seconds, 0.1))
            return
        loop = asyncio.get_running_loop()
        come = asyncio.Event()
        loop.add_reader(watched, come.set)
        timer = loop.call_later(seconds, come.set)
        try:
            await come.wait()
        finally:
            timer.cancel()
            loop.remove_reader(watched)
            os.close(watched)


def _close_unused(opening: Future[Source[Any]]) -> None:
    if opening.exception() is None:
        # This may be the thread of the event loop.
        in_own_thread(opening.result().close)
