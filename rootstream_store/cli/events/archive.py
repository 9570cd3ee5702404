"""`rootstream-store events archive`: packs the old events of closed aggregates."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from rootstream_store import events
from rootstream_store.cli.events._common import add_database_url
from rootstream_store.errors import SettingsError
from rootstream_store.records import ArchiveReport
from rootstream_store.store import Store

if TYPE_CHECKING:
    from rootstream_store.cli.events import Subparsers

__all__ = ["add_parser"]


def add_parser(subparsers: Subparsers) -> None:
    """Adds the command `events archive`."""
    parser = subparsers.add_parser(
        "archive",
        help="pack the old events of closed aggregates",
        description="Packs the events of closed aggregates whose last event is old enough; they are read as "
        "before. To be run by the owner of the tables, daily for instance; several at once do no harm.",
    )
    parser.add_argument(
        "--older-than",
        type=float,
        required=True,
        metavar="DAYS",
        help="the last event of an aggregate must be older than this",
    )
    parser.add_argument("--type", metavar="TYPE", help="only aggregates of this type (default: all)")
    parser.add_argument("--limit", type=int, metavar="N", help="the most aggregates (default: all there are)")
    parser.add_argument("--dry-run", action="store_true", help="only count them")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    add_database_url(parser)
    parser.set_defaults(run=_archive)


def _archive(arguments: argparse.Namespace) -> int:
    try:
        before = datetime.now(UTC) - timedelta(days=arguments.older_than)
    except (OverflowError, ValueError) as error:
        raise SettingsError(f"--older-than must be a number of days: {error}") from error
    with Store.open(arguments.database_url, pool_size=1, statement_timeout=0) as store:
        report = events.archive(
            store,
            before=before,
            aggregate_type=arguments.type,
            limit=arguments.limit,
            dry_run=arguments.dry_run,
            on_progress=_tell if sys.stderr.isatty() else None,
        )
    if sys.stderr.isatty():
        sys.stderr.write("\n")
    if arguments.json:
        print(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())
    elif arguments.dry_run:
        print(f"to archive: {report.events} events of {report.aggregates} aggregates")
    else:
        whose = f"{report.events} events of {report.aggregates} aggregates"
        print(f"archived: {whose} in {report.segments} segments")
        if report.events:
            print(
                f"bytes: {report.bytes_before} before, {report.bytes_after} now, "
                f"{report.bytes_after / report.events:.0f} an event"
            )
    return 0


def _tell(report: ArchiveReport) -> None:
    sys.stderr.write(f"\r{report.events} events of {report.aggregates} aggregates")
    sys.stderr.flush()
