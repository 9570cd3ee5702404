"""A process of a test: it flushes, or stops the stream, and is killed before or after a step of that.

`python flush_and_die.py DATABASE_URL REDIS_URL STREAM_ID flush|stop STEP before|after`: ends by SIGKILL at
the step with that number, from 0; with exit code 0 when there is no such step.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from rootstream_store import Store
from rootstream_store.cache import lease
from rootstream_store.db import Db
from rootstream_store.flow import Flow
from rootstream_store.repositories import _live, _viewer_flush


def main() -> None:
    database_url, redis_url, stream_id, what, number, when = sys.argv[1:]
    # What it leaves behind in Redis ends soon, so that nobody waits for long.
    lease.WRITING_TTL, _viewer_flush._MARKER = 1.0, 1000  # type: ignore[misc]  # Final for everybody else
    with Store.open(database_url, redis_url) as store:
        if what == "flush":
            store.flow(dying(_viewer_flush.flush("x"), int(number), when))
        else:
            keys = _live.cached_of(int(stream_id))
            store.flow(dying(_live.stop(int(stream_id), None), int(number), when), invalidates=keys)


def dying(steps: Flow[Any], last: int, when: str) -> Flow[Any]:
    """The steps up to that one."""
    answer, number = None, 0
    while True:
        try:
            step = steps.send(answer)
        except StopIteration as end:
            return end.value

        def perform(db: Db, step: Any = step, is_last: bool = number == last) -> Any:
            if is_last and when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            result = step(db)
            if is_last:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        answer = yield perform
        number += 1


if __name__ == "__main__":
    main()
