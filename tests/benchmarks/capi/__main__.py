"""`python -m tests.benchmarks.capi`."""

from __future__ import annotations

import argparse
import sys
import time

from rich.console import Console

from rootstream_store import Store, users
from rootstream_store.settings import Settings

from .._harness import durable_servers
from .._suite import add_options, finish
from . import calls, enqueue, lifetime
from ._bench import Bench

_GROUPS = {
    "calls": calls.run,
    "redis": calls.run_redis,
    "threads": calls.run_threads,
    "enqueue": enqueue.run,
    "durable": enqueue.run_durable,
    "start": lifetime.run_start,
    "growth": lifetime.run_growth,
}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="make bench-capi",
        description="The C library beside Python, libpq and hiredis. Ratios are what to read.",
    )
    add_options(parser, _GROUPS)
    arguments = parser.parse_args()
    start = time.monotonic()
    # On all CPUs, unlike the other suites: what threads do to each other is what is measured.
    with (
        durable_servers() as servers,
        # Without Redis, whatever REDIS_URL says: as the program in C, it asks PostgreSQL.
        Store(Settings(database_url=servers.database_url, pool_size=8, pool_min_size=8)) as store,
    ):
        user = users.create(store, username="ann", email="ann@example.org", password="correct horse")
        bench = Bench(
            quick=arguments.quick,
            console=Console(quiet=arguments.json, width=120),
            servers=servers,
            store=store,
            user_id=user.id,
        )
        for name in arguments.only or _GROUPS:
            _GROUPS[name](bench)
    finish(bench, time.monotonic() - start, as_json=arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
