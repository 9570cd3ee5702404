"""`rootstream-store maintain`: the housekeeping that a timer runs, daily for instance."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import msgspec

from rootstream_store import maintenance
from rootstream_store.store import Store

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

__all__ = ["add_parser"]

_DESCRIPTION = (
    "Makes the monthly usage partitions ahead, drops usage that need not be kept, deletes expired login "
    "sessions, and removes from Redis, where there is one, what changes made untrue. To be run daily; "
    "several at once do no harm."
)


def add_parser(subparsers: Subparsers) -> None:
    """Adds the command `maintain`."""
    parser = subparsers.add_parser(
        "maintain",
        help="housekeeping: usage partitions, retention, expired sessions",
        description=_DESCRIPTION,
    )
    parser.add_argument(
        "--months-ahead",
        type=int,
        default=3,
        metavar="N",
        help="usage partitions to have ready after the current month's (default: 3)",
    )
    parser.add_argument(
        "--keep-usage-months",
        type=int,
        metavar="N",
        help="full months of usage to keep before the current one; older usage is lost "
        "(default: all is kept)",
    )
    parser.add_argument(
        "--lock-timeout",
        type=float,
        default=5.0,
        metavar="SECONDS",
        help="how long a step may queue for a table lock, with everybody else queueing behind it "
        "(default: 5)",
    )
    parser.add_argument(
        "--database-url",
        metavar="URL",
        help="PostgreSQL connection string (default: the environment variable DATABASE_URL, "
        "which other users of the machine cannot read)",
    )
    parser.add_argument(
        "--redis-url",
        metavar="URL",
        help="Redis URL (default: the environment variable REDIS_URL, else none)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.set_defaults(run=_maintain)


def _maintain(arguments: argparse.Namespace) -> int:
    # No limit to a statement: rows that came before their month was made may be many.
    with Store.open(
        arguments.database_url,
        arguments.redis_url,
        pool_size=1,
        lock_timeout=arguments.lock_timeout,
        statement_timeout=0,
    ) as store:
        report = maintenance.run(
            store, months_ahead=arguments.months_ahead, keep_usage_months=arguments.keep_usage_months
        )
        swept = store.sweep_invalidations()
    if arguments.json:
        shown = {**msgspec.structs.asdict(report), "invalidations_swept": swept}
        print(msgspec.json.format(msgspec.json.encode(shown), indent=2).decode())
    else:
        made, dropped = report.usage_partitions_created, report.usage_partitions_dropped
        print(f"usage partitions: {made} made, {dropped} dropped")
        print(f"expired sessions: {report.sessions_deleted} deleted")
        print(f"invalidations: {swept} swept, {report.invalidations_deleted} outdated ones deleted")
    return 0
