"""`rootstream-store events rejected`: events that native code has queued and that could not be stored."""

from __future__ import annotations

import argparse
import base64
from typing import TYPE_CHECKING, Any

import msgspec

from rootstream_store import events
from rootstream_store.cli.events._common import add_database_url
from rootstream_store.store import Store

if TYPE_CHECKING:
    from rootstream_store.cli.events import Subparsers
    from rootstream_store.records import RejectedEvent

__all__ = ["add_parser"]

_MOST = 1000


def add_parser(subparsers: Subparsers) -> None:
    """Adds the command `events rejected`."""
    parser = subparsers.add_parser(
        "rejected",
        help="events of native code that could not be stored",
        description="Prints the events that native code has queued and that the event log cannot take, the "
        "oldest first, one a line: id, time, aggregate, type, user, what is wrong. What they hold is shown "
        "with --json only.",
    )
    parser.add_argument("--after-id", type=int, default=0, metavar="ID", help="from after this one on")
    parser.add_argument("-n", type=int, default=100, dest="count", metavar="N", help="at most N, up to 1000")
    parser.add_argument("--discard", type=int, metavar="ID", help="take this one out, and print it")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    add_database_url(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    with Store.open(arguments.database_url, pool_size=1) as store:
        if arguments.discard is not None:
            rows = [events.discard_rejected(store, arguments.discard)]
        else:
            count = max(1, min(_MOST, arguments.count))
            rows = events.list_rejected(store, after_id=arguments.after_id, limit=count)
    for row in rows:
        print(msgspec.json.encode(_as_json(row)).decode() if arguments.json else _line(row))
    return 0


def _line(row: RejectedEvent) -> str:
    user = "system" if row.user_id is None else f"user {row.user_id}"
    parts = [
        str(row.id),
        f"{row.rejected_at:%Y-%m-%d %H:%M:%S%z}",
        f"{row.aggregate_type} {row.aggregate_id}",
    ]
    parts += [row.event_type, user, row.error_text]
    # No control character of a name reaches the terminal.
    return "  ".join(part if part.isprintable() else ascii(part) for part in parts)


def _as_json(row: RejectedEvent) -> dict[str, Any]:
    """Payloads as text where they are UTF-8, else in base64."""
    shown = msgspec.structs.asdict(row)
    for name in ("event_data", "metadata"):
        raw = shown[name]
        if raw is not None:
            try:
                shown[name] = raw.decode()
            except UnicodeDecodeError:
                shown[name] = {"base64": base64.b64encode(raw).decode()}
    return shown
