"""One subscriber in a process of its own: `python -m … DATABASE_URL REDIS_URL`. Prints figures as JSON."""

from __future__ import annotations

import json
import sys
import time

from rootstream_store import Store, live

from ._fanout_messages import End, percentiles


def main() -> None:
    delays: list[float] = []
    versions: dict[int, int] = {}
    missing = gaps = 0
    with (
        Store.open(sys.argv[1], sys.argv[2]) as store,
        live.subscribe(store, ["state.*", "bench.*"], types=[End]) as messages,
    ):
        print("ready", flush=True)
        used = time.process_time()
        for received in messages:
            now = time.time()
            if isinstance(received, live.Gap):
                gaps += 1
                continue
            message = received.message
            if isinstance(message, End):
                break
            if isinstance(message, live.StateChanged):
                delays.append(now - message.changes["at"])
                missing += message.version - versions.get(message.stream_id, 0) - 1
                versions[message.stream_id] = message.version
    figures = {"received": len(delays), "missing": missing, "gaps": gaps, **percentiles(delays)}
    print(json.dumps({**figures, "cpu_s": time.process_time() - used}), flush=True)


if __name__ == "__main__":
    main()
