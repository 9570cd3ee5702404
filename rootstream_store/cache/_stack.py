"""What redis-py's pool needs of queue.LifoQueue, without its lock.

Each change is one step of the interpreter. So it is quicker, and an exception thrown into a thread at any
moment (a KeyboardInterrupt, a job's timeout) leaves no lock closed for ever, and hardly ever loses an item,
which would be a place in the pool: LifoQueue lost one for each sixteen exceptions.
"""

from __future__ import annotations

import time
from queue import Empty, Full, SimpleQueue
from typing import Any

__all__ = ["Stack"]


class Stack:
    """Last in, first out. At most `maxsize` items, as far as those who put keep to what they got."""

    def __init__(self, maxsize: int) -> None:
        self.maxsize = maxsize
        self.queue: list[Any] = []
        """What is there, the next one last."""
        self._waiting: list[object] = []
        self._bell: SimpleQueue[None] = SimpleQueue()

    def get_nowait(self) -> Any:
        """The item put last. Raises Empty."""
        try:
            return self.queue.pop()
        except IndexError:
            raise Empty from None

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """The item put last, waiting for one for `timeout` seconds. None: without limit. Raises Empty."""
        try:
            return self.queue.pop()
        except IndexError:
            if not block:
                raise Empty from None
        return self._wait(None if timeout is None else time.monotonic() + timeout)

    def put_nowait(self, item: Any) -> None:
        """Put an item on top. Raises Full."""
        if len(self.queue) >= self.maxsize:
            raise Full
        # In this order: who waits says so before it looks for the last time.
        self.queue.append(item)
        if self._waiting:
            self._bell.put(None)

    def qsize(self) -> int:
        """How many there are."""
        return len(self.queue)

    def _wait(self, end: float | None) -> Any:
        me = object()
        self._waiting.append(me)
        try:
            while True:
                try:
                    return self.queue.pop()
                except IndexError:
                    left = None if end is None else end - time.monotonic()
                if left is not None and left <= 0:
                    raise Empty
                try:
                    self._bell.get(timeout=left)
                except Empty:
                    end = 0.0  # one last look
        finally:
            self._waiting.remove(me)
            # The ring that was heard here may have been meant for another one.
            if self.queue and self._waiting:
                self._bell.put(None)
