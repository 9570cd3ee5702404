"""An AsyncStore behind the face of a Store, so that the tests of the one hold for the other.

Each verb is awaited on an event loop in a thread of its own; the test waits for it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, TypeVar

from rootstream_store.async_store import AsyncStore, AsyncTransaction
from rootstream_store.store import Store
from rootstream_store.transaction import Transaction

__all__ = ["Facade", "Loop"]

T = TypeVar("T")

_VERBS = ("one", "maybe", "one_or", "all", "run", "copy", "cached", "ask", "ask_all", "after_commit", "flow")


class Loop:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._loop.set_debug(False)
        self._thread = threading.Thread(target=self._loop.run_forever, name="loop", daemon=True)
        self._thread.start()

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """What `work` gives, run on the loop."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            # Ctrl-C, or a thread that is cancelled: the task is, too, and what it cleans up is waited for.
            if future.cancel():
                asyncio.run_coroutine_threadsafe(_others(), self._loop).result()
            raise

    def close(self) -> None:
        """End it."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _others() -> None:
    if others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others)


def _verb(name: str) -> Callable[..., Any]:
    def call(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        return self._wait(getattr(self._asynchronous, name)(*args, **kwargs))

    return call


@contextmanager
def _block(loop: Loop, block: AbstractAsyncContextManager[T]) -> Iterator[T]:
    given = loop.wait(_enter(block))
    try:
        yield given
    except BaseException as error:
        if not loop.wait(_exit(block, error)):
            raise
    else:
        loop.wait(_exit(block, None))


async def _enter(block: AbstractAsyncContextManager[T]) -> T:
    return await block.__aenter__()


async def _exit(block: AbstractAsyncContextManager[Any], error: BaseException | None) -> bool | None:
    return await block.__aexit__(
        None if error is None else type(error), error, None if error is None else error.__traceback__
    )


async def _next(rows: AsyncIterator[T]) -> tuple[T] | None:
    try:
        return (await anext(rows),)
    except StopAsyncIteration:
        return None


class _Verbs:
    _loop_of_test: Loop
    _asynchronous: AsyncStore | AsyncTransaction

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return self._loop_of_test.wait(work)

    for _name in _VERBS:
        locals()[_name] = _verb(_name)

    @contextmanager
    def stream(self, *args: Any, **kwargs: Any) -> Iterator[Iterator[Any]]:
        with _block(self._loop_of_test, self._asynchronous.stream(*args, **kwargs)) as rows:
            yield self._each(rows)

    @contextmanager
    def stream_from(self, *args: Any, **kwargs: Any) -> Iterator[Iterator[Any]]:
        with _block(self._loop_of_test, self._asynchronous.stream_from(*args, **kwargs)) as rows:
            yield self._each(rows)

    def _each(self, rows: AsyncIterator[Any]) -> Iterator[Any]:
        while (found := self._wait(_next(rows))) is not None:
            yield found[0]

    @contextmanager
    def batch(self) -> Iterator[Any]:
        with _block(self._loop_of_test, self._asynchronous.batch()) as batch:
            yield batch

    @contextmanager
    def transaction(self, **kwargs: Any) -> Iterator[Any]:
        with _block(self._loop_of_test, self._asynchronous.transaction(**kwargs)) as transaction:
            yield _FacadeTransaction(self._loop_of_test, transaction)


class _FacadeTransaction(_Verbs, Transaction):
    def __init__(self, loop: Loop, transaction: AsyncTransaction) -> None:
        self.__dict__ = transaction._db.__dict__
        self._loop_of_test = loop
        self._asynchronous = transaction


class Facade(_Verbs, Store):
    """With everything that a Store has; what is no verb is that of the store below."""

    def __init__(self, loop: Loop, store: AsyncStore) -> None:
        self.__dict__ = store.sync.__dict__
        self._loop_of_test = loop
        self._asynchronous: AsyncStore = store

    def close(self, timeout: float = 5.0) -> None:
        self._wait(self._asynchronous.close(timeout))

    def transact(self, work: Callable[[Any], T], **kwargs: Any) -> T:
        async def on_loop(transaction: AsyncTransaction) -> T:
            return await asyncio.to_thread(work, _FacadeTransaction(self._loop_of_test, transaction))

        return self._wait(self._asynchronous.transact(on_loop, **kwargs))

    def health(self) -> Any:
        return self._wait(self._asynchronous.health())

    def sweep_invalidations(self) -> int:
        return self._wait(self._asynchronous.sweep_invalidations())
