"""`python -m tests.benchmarks.calls`."""

from __future__ import annotations

import argparse
import sys
import time

from rich.console import Console

from rootstream_store import users

from .._harness import durable_servers, on_one_cpu
from .._suite import add_options, finish
from . import every
from ._bench import Bench

_GROUPS = {"every": every.run}


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench")
    add_options(parser, _GROUPS)
    arguments = parser.parse_args()
    start = time.monotonic()
    # A hash at full cost would be all that is seen of the calls that make one.
    users.configure_passwords(time_cost=1, memory_cost=8, parallelism=1)
    console = Console(quiet=arguments.json, width=120)
    with (
        on_one_cpu(),
        durable_servers() as servers,
        Bench(quick=arguments.quick, console=console, servers=servers) as bench,
    ):
        for name in arguments.only or _GROUPS:
            _GROUPS[name](bench)
    finish(bench, time.monotonic() - start, as_json=arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
