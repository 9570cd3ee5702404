"""`rootstream-store metrics`: the state of the servers for Prometheus."""

from __future__ import annotations

import argparse
import signal
import sys
import threading

from rootstream_store.cli.status import add_urls
from rootstream_store.store import Store

__all__ = ["add_parser"]


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command `metrics`."""
    parser = subparsers.add_parser(
        "metrics",
        help="serve metrics of the servers to Prometheus",
        description="Serves the metrics of PostgreSQL, Redis and the schema over HTTP until SIGTERM or "
        "Ctrl-C. Query times, pool and cache are those of this process alone: an application serves its own. "
        "Exit code: 0 stopped, 1 PostgreSQL cannot be reached, 2 a wrong command line or setting.",
    )
    add_urls(parser)
    parser.add_argument(
        "--port", type=int, default=9187, help="TCP port, 0: any that is free (default: 9187)"
    )
    parser.add_argument(
        "--addr",
        default="127.0.0.1",
        help="address to listen on (default: 127.0.0.1); there is no login, so whoever reaches it reads them",
    )
    parser.add_argument("--once", action="store_true", help="print the metrics once instead of serving them")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    # Not needed by the other commands, and slow to import.
    from rootstream_store import metrics

    stop = threading.Event()
    store = Store.open(
        arguments.database_url,
        arguments.redis_url,
        pool_min_size=0,
        pool_size=1,
        application_name="rootstream-store metrics",
    )
    with store:
        if arguments.once:
            sys.stdout.write(metrics.generate(store).decode())
            return 0
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        with metrics.serve(store, arguments.port, arguments.addr) as server:
            print(f"serving metrics on {arguments.addr} port {server.port}, path /metrics", flush=True)
            stop.wait()
    return 0
