"""`rootstream-store events lag`: how far subscriptions are behind, and who holds them back."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rootstream_store import events
from rootstream_store.cli.events._common import add_database_url
from rootstream_store.store import Store

if TYPE_CHECKING:
    from rootstream_store.cli.events import Subparsers
    from rootstream_store.records import InFlightAppend, SubscriptionLag

__all__ = ["add_parser"]


def add_parser(subparsers: Subparsers) -> None:
    """Adds the command `events lag`."""
    parser = subparsers.add_parser(
        "lag",
        help="how far subscriptions are behind",
        description="Prints each partition of each subscription: checkpoint, positions and seconds behind, "
        "owner, failed attempts, parked events, last error. Below it the transactions that have appended and "
        "not ended: no reader goes beyond the first.",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    add_database_url(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    with Store.open(arguments.database_url, pool_size=1) as store:
        horizon = events.get_horizon(store)
        lags = events.list_lag(store)
        in_flight = events.list_in_flight(store)
    if arguments.json:
        shown = {"horizon": horizon, "subscriptions": lags, "in_flight": in_flight}
        print(msgspec.json.format(msgspec.json.encode(shown), indent=2).decode())
        return 0
    print(f"the log is complete up to {horizon.position} of {horizon.last_position}")
    if lags:
        _print("subscriptions", _LAG, [_lag(lag) for lag in lags])
    else:
        print("there is no subscription")
    if in_flight:
        _print("transactions that have appended and not ended", _IN_FLIGHT, [_held(one) for one in in_flight])
    return 0


_LAG = ("name", "partition", "position", "behind", "seconds", "owner", "attempts", "parked", "last error")
_IN_FLIGHT = ("holds at", "pid", "role", "application", "state", "since")


def _lag(lag: SubscriptionLag) -> tuple[str, ...]:
    owner = "nobody" if lag.owner is None else f"{lag.owner}{'' if lag.is_leased else ' (expired)'}"
    seconds = "" if lag.seconds_behind is None else f"{lag.seconds_behind:.1f}"
    attempts = f"{lag.attempts} at {lag.failed_position}" if lag.attempts else ""
    return (
        lag.name,
        f"{lag.partition} of {lag.partitions}",
        str(lag.position),
        str(lag.positions_behind),
        seconds,
        owner,
        attempts,
        str(lag.parked or ""),
        lag.last_error or "",
    )


def _held(append: InFlightAppend) -> tuple[str, ...]:
    start = append.transaction_start
    return (
        str(append.watermark),
        "prepared transaction" if append.pid is None else str(append.pid),
        append.role or "",
        append.application_name or "",
        append.state or "",
        "" if start is None else f"{start:%Y-%m-%d %H:%M:%S%z}",
    )


def _print(title: str, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    table = Table(title=Text(title), title_justify="left")
    for column in columns:
        # fold: nothing is cut off where the terminal is narrow.
        table.add_column(column, overflow="fold")
    for row in rows:
        # Text, not markup; and no control character of a name reaches the terminal.
        table.add_row(*(Text(cell if cell.isprintable() else ascii(cell)) for cell in row))
    Console().print(table)
