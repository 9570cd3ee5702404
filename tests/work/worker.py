"""A worker in a process of its own, for the soak: python -m tests.work.worker DATABASE_URL REDIS_URL NAME.

Prints the number of each job when it is done, and takes a moment for each, so that it is often killed in one.
"""

from __future__ import annotations

import random
import sys
import time

from rootstream_store import Store, WorkQueue
from rootstream_store.errors import Unavailable


def main(database_url: str, redis_url: str, name: str) -> None:
    with (
        Store.open(database_url, redis_url) as store,
        WorkQueue(store, name, int, lease=1.0, attempts=100) as queue,
    ):
        while True:
            job = queue.take(timeout=1.0)
            if job is None:
                continue
            time.sleep(random.uniform(0, 0.02))  # the work
            print(job.payload, flush=True)
            try:
                job.done()
            except Unavailable:
                continue  # it is handed out again


if __name__ == "__main__":
    main(*sys.argv[1:])
