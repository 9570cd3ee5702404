"""Server processes that are stopped: their kernel acknowledges what they are sent, and nothing answers."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from ..waiting import until

__all__ = ["frozen"]


@contextlib.contextmanager
def frozen(*pids: int) -> Iterator[None]:
    """In the block these processes do nothing."""
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        for pid in pids:
            until(lambda pid=pid: _state(pid) == "T", f"process {pid} has stopped")  # type: ignore[misc]  # mypy cannot infer the lambda
        yield
    finally:
        for pid in pids:
            # What this side gave up on may have ended by then.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
