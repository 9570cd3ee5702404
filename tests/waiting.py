"""Waiting for what must come, and cancelling threads that wait for too long."""

from __future__ import annotations

import contextlib
import ctypes
import sys
import threading
import time
from collections.abc import Callable

import pytest

__all__ = ["Cancelled", "cancel", "in_thread", "leave_unraisable_errors_alone", "until"]


class Cancelled(BaseException):
    """What `cancel` raises in a thread; a BaseException, so that nothing handles it by the way."""


def until(condition: Callable[[], object], what: str = "", seconds: float = 20.0) -> None:
    """Returns as soon as the condition holds; fails the test when it does not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.005)


def cancel(thread: threading.Thread) -> bool:
    """Has Cancelled raised in the thread, at whatever it does next in Python. False: it has ended."""
    if not thread.is_alive() or thread.ident is None:
        return False
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(Cancelled))
    return True


def in_thread(work: Callable[[], object]) -> threading.Thread:
    """Starts `work` in a thread that ends quietly when it is cancelled."""

    def run() -> None:
        with contextlib.suppress(Cancelled):
            work()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def leave_unraisable_errors_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancelled thread leaves cursors half-made, whose warnings nobody can handle; and pytest's own
    handling of them could be cancelled in its turn. The test must collect garbage before it ends."""
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
