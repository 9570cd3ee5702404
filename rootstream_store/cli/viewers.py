"""`rootstream-store viewers`: flushing what is counted in Redis, and who is watched most."""

from __future__ import annotations

import argparse
import signal
import sys
import threading

import msgspec

from rootstream_store.cli.status import add_urls
from rootstream_store.repositories import viewers
from rootstream_store.store import Store

__all__ = ["add_parser"]


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the commands `viewers flush` and `viewers top`."""
    parser = subparsers.add_parser(
        "viewers", help="flush viewers from Redis to PostgreSQL, list streams by them"
    )
    commands = parser.add_subparsers(metavar="command", required=True)
    flush = commands.add_parser(
        "flush",
        help="bring the viewers of all streams on air to PostgreSQL",
        description="Brings what is counted in Redis to the sessions on air. Several at once do no harm. "
        "Exit code: 0 done, or stopped; 1 a server did not answer, or Redis not for all streams.",
    )
    add_urls(flush)
    flush.add_argument(
        "--every",
        type=float,
        metavar="SECONDS",
        help="go on until SIGTERM or Ctrl-C, with one more flush then (default: once)",
    )
    flush.set_defaults(run=_flush)
    top = commands.add_parser("top", help="public streams on air by their viewers, most first")
    add_urls(top)
    top.add_argument("-n", dest="limit", type=int, default=20, metavar="N", help="how many (default: 20)")
    top.add_argument("--json", action="store_true", help="print JSON instead of text")
    top.set_defaults(run=_top)


def _open(arguments: argparse.Namespace) -> Store:
    return Store.open(
        arguments.database_url,
        arguments.redis_url,
        pool_min_size=0,
        pool_size=1,
        application_name="rootstream-store viewers",
    )


def _flush(arguments: argparse.Namespace) -> int:
    with _open(arguments) as store:
        if arguments.every is None:
            report = viewers.flush(store)
            print(f"{report.streams} streams on air, figures of {report.flushed} changed")
            if not report.is_complete:
                print("error: Redis did not answer for all of them", file=sys.stderr)
            return 0 if report.is_complete else 1
        flusher = viewers.Flusher(store, every=arguments.every)
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        print(f"flushing every {arguments.every:g} s", flush=True)
        flusher.run(stop)
    return 0


def _top(arguments: argparse.Namespace) -> int:
    with _open(arguments) as store:
        found = viewers.top(store, limit=arguments.limit)
    if arguments.json:
        print(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
        return 0
    print(f"{'viewers':>12}  stream")
    for one in found:
        print(f"{one.viewers:>12,}  {one.stream_id}")
    return 0
