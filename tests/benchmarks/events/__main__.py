"""`python -m tests.benchmarks.events`."""

from __future__ import annotations

import argparse
import json
import sys
import time

import psycopg
from rich.console import Console
from rich.table import Table

from .._harness import durable_servers, on_one_cpu
from . import batches, copying, growth, reading, single, threads
from ._bench import Bench, Target

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
    parser.add_argument("--only", choices=_GROUPS, nargs="+", help="these groups (default: all)")
    parser.add_argument(
        "--quick", action="store_true", help="fewer rounds and smaller logs: a minute on an idle machine"
    )
    parser.add_argument(
        "--sizes",
        type=_sizes,
        help="of the log in the group growth (default: 1e4,1e5,1e6,2e6; quick: 1e4,1e5)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of tables")
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
    seconds = time.monotonic() - start
    if arguments.json:
        targets = [
            {"name": t.name, "wanted": t.wanted, "reached": t.reached, "unit": t.unit, "met": t.met}
            for t in bench.targets
        ]
        json.dump({"tables": bench.figures, "targets": targets, "seconds": seconds}, sys.stdout, indent=2)
        print()
    else:
        _show_targets(console, bench.targets)
        console.print(f"took {seconds:.0f} s")
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


def _show_targets(console: Console, targets: list[Target]) -> None:
    table = Table(box=None)
    table.add_column("what")
    for heading in ("target", "reached", "met"):
        table.add_column(heading, justify="right")
    for target in targets:
        sign = "≤" if target.at_most else "≥"
        form = ",.0f" if target.wanted >= 100 else ".2f"
        table.add_row(
            target.name,
            f"{sign} {target.wanted:,g} {target.unit}",
            f"{target.reached:{form}} {target.unit}",
            "yes" if target.met else "no",
        )
    console.print("targets", style="italic")
    console.print(table)
    console.print()


if __name__ == "__main__":
    sys.exit(main())
