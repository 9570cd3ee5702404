"""Calls at the same time, and waiting for a call to be held up by another's lock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import psycopg

from rootstream_store.errors import RootStreamError

__all__ = ["blocked", "together"]

T = TypeVar("T")


def together(calls: Sequence[Callable[[], T]]) -> list[T | RootStreamError]:
    """What each call returned, or the error of ours that it raised; all begin at once, a thread each."""
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], T]) -> T | RootStreamError:
        barrier.wait(10)
        try:
            return call()
        except RootStreamError as error:
            return error

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(run, calls))


def blocked(connection: psycopg.Connection, count: int = 1) -> None:
    """Returns when `count` statements in the connection's database wait for a lock. Raises AssertionError
    when that does not come about."""
    deadline = time.monotonic() + 10
    waiting = """
        SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'
    """
    while time.monotonic() < deadline:
        row = connection.execute(waiting).fetchone()
        if row is not None and row[0] >= count:
            return
        time.sleep(0.005)
    raise AssertionError(f"no {count} statements wait for a lock")
