"""Waiting for what must come, and cancelling threads that wait for too long."""

from __future__ import annotations

import contextlib
import ctypes
import threading
import time
from collections.abc import Callable

__all__ = ["Cancelled", "cancel", "in_thread", "until"]


class Cancelled(BaseException):
    """What `cancel` raises in a thread; a BaseException, so that nothing handles it by the way."""


def until(condition: Callable[[], object], what: str = "", seconds: float = 20.0) -> None:
    """Returns as soon as the condition holds; fails the test when it does not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.005)


def cancel(thread: threading.Thread) -> None:
    """Has Cancelled raised in the thread, at whatever it does next in Python."""
    assert thread.ident is not None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(Cancelled))


def in_thread(work: Callable[[], object]) -> threading.Thread:
    """Starts `work` in a thread that ends quietly when it is cancelled."""

    def run() -> None:
        with contextlib.suppress(Cancelled):
            work()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread
