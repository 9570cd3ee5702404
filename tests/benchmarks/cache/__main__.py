"""`python -m tests.benchmarks.cache`."""

from __future__ import annotations

import argparse
import sys
import time

import redis
from rich.console import Console

from rootstream_store import Store

from .._harness import durable_servers, on_one_cpu
from .._suite import add_options, finish
from . import fanout, hits, viewers
from ._bench import Bench

_GROUPS = {
    "hits": hits.run,
    "fanout": fanout.run,
    "viewers": viewers.run,
}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="make bench-cache",
        description="Cached reads and live figures beside bare redis-py. Ratios are what to read.",
    )
    add_options(parser, _GROUPS)
    arguments = parser.parse_args()
    start = time.monotonic()
    with (
        on_one_cpu(),
        durable_servers() as servers,
        Store.open(servers.database_url, servers.redis_url, pool_size=8) as store,
        redis.Redis.from_url(servers.redis_url) as bare,
    ):
        bench = Bench(
            quick=arguments.quick,
            console=Console(quiet=arguments.json, width=110),
            servers=servers,
            store=store,
            bare=bare,
        )
        for name in arguments.only or _GROUPS:
            _GROUPS[name](bench)
    finish(bench, time.monotonic() - start, as_json=arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
