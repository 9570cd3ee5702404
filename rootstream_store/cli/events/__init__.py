"""`rootstream-store events …`: looking at the event log. Each command is one module with `add_parser`."""

from __future__ import annotations

import argparse
import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

__all__ = ["add_parser"]

_COMMANDS = ("tail", "show", "lag", "rejected", "rebuild", "verify", "seal", "archive", "erase")
"""Modules of this package, in the order of --help."""


def add_parser(subparsers: Subparsers) -> None:
    """Adds the group `events`."""
    parser = subparsers.add_parser(
        "events", help="look at the event log", description="Looks at the event log and at its readers."
    )
    commands = parser.add_subparsers(metavar="command", required=True)
    for name in _COMMANDS:
        importlib.import_module(f"{__name__}.{name}").add_parser(commands)
