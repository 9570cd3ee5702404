"""`rootstream-store events show`: the events of one aggregate."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from rootstream_store import events
from rootstream_store.cli.events._common import add_database_url, add_json, print_event
from rootstream_store.store import Store

if TYPE_CHECKING:
    from rootstream_store.cli.events import Subparsers

__all__ = ["add_parser"]


def add_parser(subparsers: Subparsers) -> None:
    """Adds the command `events show`."""
    parser = subparsers.add_parser(
        "show",
        help="the events of one aggregate",
        description="Prints the events of one aggregate, oldest first, one a line: position, time, "
        "aggregate, version, type, user, data, metadata.",
    )
    parser.add_argument("aggregate_type", metavar="TYPE")
    parser.add_argument("aggregate_id", metavar="ID")
    parser.add_argument(
        "--after-version", type=int, default=0, metavar="N", help="leave out events up to this version"
    )
    add_json(parser)
    add_database_url(parser)
    parser.set_defaults(run=_show)


def _show(arguments: argparse.Namespace) -> int:
    name = f"{arguments.aggregate_type} {arguments.aggregate_id!r}"
    with Store.open(arguments.database_url, pool_size=1) as store:
        head = events.find_head(store, arguments.aggregate_type, arguments.aggregate_id)
        if head is None:
            print(f"{name} has no event", file=sys.stderr)
            return 1
        with events.stream(
            store, arguments.aggregate_type, arguments.aggregate_id, after_version=arguments.after_version
        ) as found:
            for event in found:
                print_event(event, as_json=arguments.json)
    if not arguments.json:
        print(f"{name} is at version {head.version}{', closed' if head.is_closed else ''}", file=sys.stderr)
    return 0
