"""`python -m tests.benchmarks.calls`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path

import psycopg
from rich.console import Console

from rootstream_store import users

from .._harness import durable_servers, on_one_cpu
from .._suite import add_options, finish, report
from . import coroutines, drivers, every, redis_calls, start, threads
from ._bench import Bench
from ._picture import draw

_GROUPS = {
    "drivers": drivers.run,
    "every": every.run,
    "redis": redis_calls.run,
    "threads": threads.run,
    "async": coroutines.run,
    "start": start.run,
}
_ROOT = Path(__file__).resolve().parents[3]
_EPILOG = """\
groups: drivers (a few calls in every way there is), every (each repository function beside its own statements
by psycopg and by libpq in C), redis (what Redis answers), threads (pools of 8 and 20), async (AsyncStore
beside asyncpg), start (import, prepared statements, memory).
asyncpg, SQLAlchemy and aiosql are compared where they are installed: .venv/bin/pip install -e '.[bench]'
Servers and client share one CPU. Ratios within a run are what to read.
"""
_TITLE = "rootstream_store beside the drivers"
_OUTPUT = _ROOT / "build" / "bench.json"
_PICTURE = _ROOT / "docs" / "bench.svg"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="make bench",
        description="Repository calls beside libpq, psycopg and what else is installed, on durable servers.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_options(parser, _GROUPS)
    parser.add_argument(
        "--output",
        type=Path,
        default=_OUTPUT,
        metavar="FILE",
        help="for JSON (default: build/bench.json)",
    )
    parser.add_argument(
        "--picture", type=Path, metavar="FILE", help="for an SVG (default: docs/bench.svg after a whole run)"
    )
    arguments = parser.parse_args()
    start = time.monotonic()
    # What is measured runs on the servers of the run, and no store finds a Redis that it is not given.
    for name in ("DATABASE_URL", "REDIS_URL"):
        os.environ.pop(name, None)
    # A hash at full cost would be all that is seen of the calls that make one.
    users.configure_passwords(time_cost=1, memory_cost=8, parallelism=1)
    console = Console(quiet=arguments.json, width=120)
    with (
        on_one_cpu(),
        durable_servers() as servers,
        Bench(quick=arguments.quick, console=console, servers=servers) as bench,
    ):
        wanted = arguments.only or list(_GROUPS)
        for name in _GROUPS:
            if name in wanted:
                _GROUPS[name](bench)
        machine = _machine(bench)
    finish(bench, time.monotonic() - start, as_json=arguments.json)
    document = {**report(bench, time.monotonic() - start), "machine": machine}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    is_whole = not arguments.quick and len(wanted) == len(_GROUPS)
    picture = arguments.picture or (_PICTURE if is_whole else None)
    if picture is not None and bench.panels:
        picture.write_text(draw(_TITLE, machine, bench.panels), encoding="utf-8")
    return 0


def _machine(bench: Bench) -> str:
    """What the figures depend on, in one line."""
    with psycopg.connect(bench.database_url) as connection:
        server = connection.info.parameter_status("server_version") or "?"
    return (
        f"PostgreSQL {server.split()[0]}, Python {platform.python_version()}, psycopg {psycopg.__version__}; "
        "unix socket, durable, servers and client on one CPU"
    )


if __name__ == "__main__":
    sys.exit(main())
