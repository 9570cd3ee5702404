"""`rootstream-store events erase`: erases what the log holds of a person."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

import msgspec

from rootstream_store import events
from rootstream_store.cli.events._common import add_database_url
from rootstream_store.store import Store

if TYPE_CHECKING:
    from rootstream_store.cli.events import Subparsers

__all__ = ["add_parser"]

_USAGE = 2


def add_parser(subparsers: Subparsers) -> None:
    """Adds the command `events erase`."""
    parser = subparsers.add_parser(
        "erase",
        help="erase the data of a user's or an aggregate's events, for good",
        description="Empties the data and metadata of events, live and archived, and deletes the snapshots "
        "made of them. Versions, positions, types, users and times stay; an event of the log tells of it. To "
        "be run by the owner of the tables.",
    )
    parser.add_argument("--user", type=int, metavar="ID", help="all events that this user caused")
    parser.add_argument(
        "--aggregate",
        nargs=2,
        action="append",
        default=[],
        metavar=("TYPE", "ID"),
        help="all events of this aggregate; may be given several times",
    )
    parser.add_argument("--reason", required=True, metavar="TEXT", help="kept in the log: no personal data")
    parser.add_argument("--requested-by", metavar="TEXT", help="who asked for it, kept in the log, too")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    add_database_url(parser)
    parser.set_defaults(run=_erase)


def _erase(arguments: argparse.Namespace) -> int:
    whose = [f"aggregate {kind} {name!a}" for kind, name in arguments.aggregate]
    if arguments.user is not None:
        whose.insert(0, f"user {arguments.user}")
    if not arguments.yes:
        if not sys.stdin.isatty():
            print("nobody can be asked here: --yes says that it is meant", file=sys.stderr)
            return _USAGE
        print(f"The data of all events of {', '.join(whose)} will be gone for good.", file=sys.stderr)
        if input('Type "erase" to go on: ').strip() != "erase":
            print("nothing was erased", file=sys.stderr)
            return 1
    with Store.open(arguments.database_url, pool_size=1, statement_timeout=0) as store:
        report = events.erase(
            store,
            user_id=arguments.user,
            aggregates=[(kind, name) for kind, name in arguments.aggregate],
            reason=arguments.reason,
            requested_by=arguments.requested_by,
        )
    if arguments.json:
        print(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())
    elif report.operation is None:
        print(f"nothing was left to erase; {report.snapshots} snapshots deleted")
    else:
        print(
            f"erasure {report.operation}: {report.events} live and {report.archived_events} archived events "
            f"of {report.aggregates} aggregates, {report.snapshots} snapshots deleted"
        )
    return 0
