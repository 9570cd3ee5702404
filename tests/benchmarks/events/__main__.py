"""`python -m tests.benchmarks.events`."""

from __future__ import annotations

import argparse
import sys
import time

import psycopg
from rich.console import Console

from .._harness import durable_servers, on_one_cpu
from .._suite import add_options, finish
from . import batches, copying, growth, reading, single, threads
from ._bench import Bench

_GROUPS = {
    "single": single.run,
    "batches": batches.run,
    "copying": copying.run,
    "reading": reading.run,
    "growth": growth.run,
    "threads": threads.run,
}
_EPILOG = """\
groups: single (one event), batches (10, 100, 1,000 events), copying (COPY), reading (events, snapshots,
pages), growth (latency from 10^4 to 2*10^6 events, and bytes on disk), threads (8 writers).
The package eventsourcing is compared where it is installed: .venv/bin/pip install "eventsourcing[postgres]"
Servers and client share one CPU, but for the group threads. Ratios within a run are what to read.
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="make bench-events",
        description="The event log beside bare SQL and the package eventsourcing, on durable servers.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_options(parser, _GROUPS)
    parser.add_argument(
        "--sizes",
        type=_sizes,
        help="of the log in the group growth (default: 1e4,1e5,1e6,2e6; quick: 1e4,1e5)",
    )
    arguments = parser.parse_args()
    sizes = arguments.sizes or _sizes("1e4,1e5" if arguments.quick else "1e4,1e5,1e6,2e6")
    console = Console(quiet=arguments.json, width=110)
    start = time.monotonic()
    bench = Bench(quick=arguments.quick, sizes=sizes, console=console)
    wanted = arguments.only or list(_GROUPS)
    with on_one_cpu():
        _run(bench, [name for name in _GROUPS if name in wanted and name != "threads"])
    if "threads" in wanted:
        _run(bench, ["threads"])
    finish(bench, time.monotonic() - start, as_json=arguments.json)
    return 0


def _sizes(text: str) -> list[int]:
    found = sorted({int(float(part)) for part in text.split(",")})
    if found[0] < 10_000:
        raise argparse.ArgumentTypeError("a log begins with 10,000 events")
    return found


def _run(bench: Bench, groups: list[str]) -> None:
    if not groups:
        return
    with (
        durable_servers(redis=False) as servers,
        psycopg.connect(servers.database_url, autocommit=True) as admin,
    ):
        bench.connect(servers.database_url, admin)
        for name in groups:
            _GROUPS[name](bench)


if __name__ == "__main__":
    sys.exit(main())
