"""`python -m tests.benchmarks.calls._memory URL WAY USER STREAM`: what each of 20 used connections takes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import psycopg

from rootstream_store import events, streams, users

from ._bench import open_store
from ._recording import Statement, record

__all__ = ["MODULE", "WAYS"]

MODULE: Final = "tests.benchmarks.calls._memory"
_CONNECTIONS: Final = 20

Calls = list[Callable[[Any], object]]


def _pooled(stack: ExitStack, url: str, calls: Calls) -> list[int]:
    """Connections of a store, each used for all calls; the server's processes."""
    store = stack.enter_context(open_store(url, pool_size=_CONNECTIONS, pool_min_size=_CONNECTIONS))
    held = [store._pool.acquire() for _ in range(_CONNECTIONS)]
    for connection in held:
        store._pool.release(connection)  # the only one there, so that the calls take it
        for call in calls:
            call(store)
        store._pool.acquire()
    for connection in held:
        store._pool.release(connection)
    return [connection.info.backend_pid for connection in held]


def _bare(stack: ExitStack, url: str, calls: Calls) -> list[int]:
    """The same statements on connections of psycopg."""
    with open_store(url, pool_size=1) as store:
        steps = [step for call in calls for step in record(store, call)]
    held = [stack.enter_context(psycopg.connect(url, autocommit=True)) for _ in range(_CONNECTIONS)]
    for connection in held:
        for step in steps:
            assert isinstance(step, Statement)
            connection.execute(step.query.text, step.params, prepare=True, binary=True).fetchall()
    return [connection.info.backend_pid for connection in held]


WAYS: Final = {"rootstream_store": _pooled, "psycopg": _bare}


def _resident() -> int:
    """KiB of this process."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


def _private(process: int) -> int:
    """KiB that only this process has."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private"))


def main(url: str, way: str, user_id: int, stream_id: int) -> None:
    calls: Calls = [
        lambda db: users.get(db, user_id),
        lambda db: users.list_(db),
        lambda db: streams.update_stats(db, stream_id, viewer_count=150),
        lambda db: events.append(db, "Stream", "memory", "Changed", {}),
    ]
    with ExitStack() as stack:
        with open_store(url, pool_size=1) as store:  # what is loaded and kept once
            for call in calls:
                call(store)
        before = _resident()
        processes = WAYS[way](stack, url, calls)
        found = {"client_kib": (_resident() - before) / _CONNECTIONS}
        try:
            found["server_kib"] = sum(map(_private, processes)) / _CONNECTIONS
        except OSError as error:  # of another user, another machine, or another system
            print(f"the server's memory cannot be read: {error}", file=sys.stderr)
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
