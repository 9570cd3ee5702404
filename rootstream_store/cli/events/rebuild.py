"""`rootstream-store events rebuild`: makes a projection anew from the whole log."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from rootstream_store import events
from rootstream_store.cli.events._common import add_database_url
from rootstream_store.errors import SettingsError
from rootstream_store.events import Projection
from rootstream_store.store import Store

if TYPE_CHECKING:
    from rootstream_store.cli.events import Subparsers

__all__ = ["add_parser"]


def add_parser(subparsers: Subparsers) -> None:
    """Adds the command `events rebuild`."""
    parser = subparsers.add_parser(
        "rebuild",
        help="make a projection anew from the whole log",
        description="Makes the tables of a projection anew beside those that serve, then puts them in their "
        "place in one transaction. One that was interrupted may be run again; it starts over.",
    )
    parser.add_argument(
        "projection",
        metavar="MODULE:ATTRIBUTE",
        help="where the Projection is, as app.projections:totals; modules of the current directory are found",
    )
    parser.add_argument(
        "--keep-old", action="store_true", help="leave the old tables in the schema projection_NAME__old"
    )
    parser.add_argument(
        "--inline",
        action="store_true",
        help="for a projection that appends write themselves: they wait while it is switched over",
    )
    add_database_url(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    projection = _find(arguments.projection)
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    with Store.open(arguments.database_url, pool_size=2) as store, progress:
        task = progress.add_task(projection.name, total=None)
        handled = events.rebuild(
            store,
            projection,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
            keep_old=arguments.keep_old,
            inline=arguments.inline,
        )
    print(f"{projection.schema} is rebuilt from {handled} events")
    return 0


def _find(path: str) -> Projection:
    """The projection that MODULE:ATTRIBUTE names. Raises SettingsError."""
    module, _, attribute = path.partition(":")
    if not attribute or not all(module.split(".")):  # a leading dot would be relative to nothing
        raise SettingsError(f"write MODULE:ATTRIBUTE, not {path!r}")
    # As `python -m` does: an application is mostly run from where it lies.
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        found: object = importlib.import_module(module)
    except ImportError as error:
        raise SettingsError(f"{module} cannot be imported: {error}") from error
    for name in attribute.split("."):
        found = getattr(found, name, None)
    if not isinstance(found, Projection):
        raise SettingsError(f"{path} is no Projection but a {type(found).__name__}")
    return found
