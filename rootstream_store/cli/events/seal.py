"""`rootstream-store events seal`: seals the log, so that later changes are found out."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

import msgspec

from rootstream_store import events
from rootstream_store.cli.events._common import add_database_url
from rootstream_store.records import Seal
from rootstream_store.store import Store

if TYPE_CHECKING:
    from rootstream_store.cli.events import Subparsers

__all__ = ["add_parser"]


def add_parser(subparsers: Subparsers) -> None:
    """Adds the command `events seal`."""
    parser = subparsers.add_parser(
        "seal",
        help="seal the log, so that `verify` finds later changes",
        description="Makes a digest over the next range of the log and over the seal before it, and prints "
        "its hash: kept elsewhere, it is the anchor of `verify`. To be run by the owner of the tables, every "
        "few minutes for instance; several at once do no harm.",
    )
    parser.add_argument("--all", action="store_true", help="make seals until all of the log is sealed")
    parser.add_argument(
        "--limit",
        type=int,
        default=10_000,
        metavar="N",
        help="the most positions of one seal (default: 10000)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object a seal instead of text")
    add_database_url(parser)
    parser.set_defaults(run=_seal)


def _seal(arguments: argparse.Namespace) -> int:
    with Store.open(arguments.database_url, pool_size=1, statement_timeout=0) as store:
        made = events.seal(store, limit=arguments.limit)
        if made is None and not arguments.json:
            last = events.find_last_seal(store)
            where = "there is no event" if last is None else f"up to position {last.last_position}"
            print(f"all is sealed: {where}", file=sys.stderr)
        while made is not None:
            _print(made, as_json=arguments.json)
            made = events.seal(store, limit=arguments.limit) if arguments.all else None
    return 0


def _print(seal: Seal, *, as_json: bool) -> None:
    if as_json:
        values = msgspec.structs.asdict(seal) | {"hash": seal.hash.hex()}
        print(msgspec.json.encode(values).decode(), flush=True)
    else:
        print(
            f"seal {seal.number}: {seal.event_count} events, positions {seal.first_position} to "
            f"{seal.last_position}, {seal.hash.hex()}",
            flush=True,
        )
