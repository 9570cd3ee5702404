"""What the commands of the group share: where the database is, and how an event is printed."""

from __future__ import annotations

import argparse
import sys

import msgspec

from rootstream_store.records import Event

__all__ = ["add_database_url", "add_json", "line_of", "print_event"]


def add_database_url(parser: argparse.ArgumentParser) -> None:
    """Adds --database-url."""
    parser.add_argument(
        "--database-url",
        metavar="URL",
        help="PostgreSQL connection string (default: the environment variable DATABASE_URL, "
        "which other users of the machine cannot read)",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """Adds --json."""
    parser.add_argument("--json", action="store_true", help="print one JSON object a line instead of text")


def line_of(event: Event) -> str:
    """One event in one line. JSON escapes every control character, so that none reaches a terminal."""
    who = "" if event.user_id is None else f" by user {event.user_id}"
    name = _plain(f"{event.aggregate_type} {event.aggregate_id}")
    metadata = "" if event.metadata is None else f" {_json(event.metadata)}"
    return (
        f"{event.position} {event.timestamp:%Y-%m-%d %H:%M:%S.%f%z} {name} v{event.version} "
        f"{_plain(event.event_type)}{who} {_json(event.event_data)}{metadata}"
    )


def print_event(event: Event, *, as_json: bool) -> None:
    """Prints one event, and hands it on at once: whoever follows the log wants to see it now."""
    sys.stdout.write((_json(event) if as_json else line_of(event)) + "\n")
    sys.stdout.flush()


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _plain(text: str) -> str:
    return text if text.isprintable() else ascii(text)
