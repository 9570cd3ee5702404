"""`rootstream-store events verify`: whether the log is what was sealed."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

import msgspec

from rootstream_store import events
from rootstream_store.cli.events._common import add_database_url
from rootstream_store.records import Verification
from rootstream_store.store import Store

if TYPE_CHECKING:
    from rootstream_store.cli.events import Subparsers

__all__ = ["add_parser"]

_ALTERED = 5
"""Not 1: a timer must tell a log that was changed from a server that is away."""


def add_parser(subparsers: Subparsers) -> None:
    """Adds the command `events verify`."""
    parser = subparsers.add_parser(
        "verify",
        help="prove that no sealed event was changed, or name the first that was",
        description="Makes every seal anew from what the log holds now and compares. Exit code 0: all is as "
        "it was sealed; 5: not, and the first event or seal at fault is named in one line.",
    )
    parser.add_argument(
        "--anchor",
        metavar="HASH",
        help="hash of a seal that was kept elsewhere; without it seals that were all made anew pass",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    add_database_url(parser)
    parser.set_defaults(run=_verify)


def _verify(arguments: argparse.Namespace) -> int:
    shows = sys.stderr.isatty()
    with Store.open(arguments.database_url, pool_size=1, statement_timeout=0) as store:
        found = events.verify(store, anchor=arguments.anchor, on_progress=_tell if shows else None)
    if shows:
        sys.stderr.write("\n")
    if arguments.json:
        print(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    elif found.fault is not None:
        print(f"{found.fault.kind}: {found.fault.detail}")
    else:
        print(
            f"ok: {found.sealed_events} events in {found.seals} seals up to position {found.last_position}, "
            f"{found.unsealed_events} not sealed; anchor {found.head or '(no seal)'}"
        )
    return 0 if found.fault is None else _ALTERED


def _tell(found: Verification) -> None:
    sys.stderr.write(f"\r{found.sealed_events} events in {found.seals} seals")
    sys.stderr.flush()
