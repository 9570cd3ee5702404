"""A process of a test: viewers who come, stay a while and go, until somebody kills it.

`python crowd.py DATABASE_URL REDIS_URL STREAM_ID NAME EXPIRY`: prints a line once all of its viewers are
there.
"""

from __future__ import annotations

import itertools
import sys

from rootstream_store import Store, viewers

STAYING = 20


def main() -> None:
    database_url, redis_url, stream_id, name, expiry = sys.argv[1:]
    with Store.open(database_url, redis_url) as store:
        for turn in itertools.count():
            for number in range(STAYING):
                viewers.heartbeat(store, int(stream_id), f"{name} {number}", expiry=float(expiry))
            for passing in range(5):
                viewers.join(store, int(stream_id), f"{name} passing {turn} {passing}")
                viewers.leave(store, int(stream_id), f"{name} passing {turn} {passing}")
            if turn == 0:
                print("there", flush=True)


if __name__ == "__main__":
    main()
