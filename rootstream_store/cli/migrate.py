"""`rootstream-store migrate …`: where the schema stands, and how it gets further."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rootstream_store import migrations
from rootstream_store.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]
    Run = Callable[[argparse.Namespace], int]

__all__ = ["add_parser"]

_PENDING = 3


def add_parser(subparsers: Subparsers) -> None:
    """Adds the group `migrate` with its commands."""
    group = subparsers.add_parser(
        "migrate", help="the database schema: status, plan, apply, baseline, resolve, sql"
    )
    commands = group.add_subparsers(metavar="command", required=True)

    _add(
        commands,
        "status",
        _status,
        "where the database stands; exit code 0 up to date, 1 a problem that apply would refuse, "
        "3 migrations pending",
    )
    plan = _add(commands, "plan", _plan, "the files that apply would apply; changes nothing")
    apply = _add(commands, "apply", _apply, "apply what is pending")
    for parser in (plan, apply):
        parser.add_argument(
            "--to", type=int, metavar="VERSION", help="stop after this version (default: all)"
        )
    apply.add_argument(
        "--lock-timeout",
        type=_seconds,
        default=5.0,
        metavar="SECONDS",
        help="how long a statement may queue for a table lock before it steps back and tries again "
        "(default: 5)",
    )
    baseline = _add(
        commands,
        "baseline",
        _baseline,
        "put versions on record that were applied by other means, after comparing",
    )
    baseline.add_argument("version", type=int, help="the version that the database is at")
    baseline.add_argument(
        "--no-check", action="store_true", help="record without comparing database and files"
    )
    resolve = _add(commands, "resolve", _resolve, "tell how a no-transaction file that was cut off ended")
    resolve.add_argument("version", type=int, help="the version that is on record as running")
    how = resolve.add_mutually_exclusive_group(required=True)
    how.add_argument("--applied", action="store_true", help="it did its work")
    how.add_argument("--not-applied", action="store_true", help="it did not; a half-built index is dropped")
    for parser in (apply, baseline, resolve):
        parser.add_argument(
            "--wait",
            type=_seconds,
            default=60.0,
            metavar="SECONDS",
            help="how long to wait for another runner, and for the locks of others (default: 60)",
        )
    sql = commands.add_parser("sql", help="print the SQL, for a migration tool of your own", description=_SQL)
    sql.add_argument(
        "--path", type=Path, metavar="DIR", help="directory of files (default: the library's own)"
    )
    sql.add_argument(
        "--after", type=int, default=0, metavar="VERSION", help="only later versions (default: 0)"
    )
    sql.add_argument("--to", type=int, metavar="VERSION", help="only up to this version (default: all)")
    sql.set_defaults(run=_sql)


_SQL = "Prints the files as plain SQL. No server is asked."


def _add(commands: Subparsers, name: str, run: Run, help_text: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=help_text, description=f"{help_text[0].upper()}{help_text[1:]}.")
    parser.add_argument(
        "--path", type=Path, metavar="DIR", help="directory of files (default: the library's own)"
    )
    parser.add_argument(
        "--line",
        metavar="NAME",
        help="name the directory is kept under (default: app with --path, else rootstream)",
    )
    parser.add_argument(
        "--database-url",
        metavar="URL",
        help="PostgreSQL connection string (default: the environment variable DATABASE_URL, "
        "which other users of the machine cannot read)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.set_defaults(run=run)
    return parser


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise ValueError(text)
    return value


def _where(arguments: argparse.Namespace) -> dict[str, Any]:
    url = arguments.database_url or os.environ.get("DATABASE_URL")
    if not url:
        raise SettingsError("database_url is missing: pass --database-url or set DATABASE_URL")
    return {"db": url, "path": arguments.path, "line": arguments.line}


def _status(arguments: argparse.Namespace) -> int:
    status = migrations.status(**_where(arguments))
    if arguments.json:
        _print_json(
            {
                "line": status.line,
                "version": status.version,
                "pending": len(status.pending),
                "problems": status.problems,
                "migrations": status.entries,
            }
        )
    else:
        _print_table(
            f"line {status.line}: version {status.version}, {len(status.pending)} pending",
            ["version", "file", "state", "applied at", "ms", "problem"],
            [
                (
                    entry.version,
                    entry.name,
                    entry.state,
                    f"{entry.applied_at:%Y-%m-%d %H:%M:%S %Z}" if entry.applied_at else "",
                    "" if entry.duration_ms is None else entry.duration_ms,
                    entry.problem or "",
                )
                for entry in status.entries
            ],
        )
    if status.problems:
        return 1
    return _PENDING if status.pending else 0


def _plan(arguments: argparse.Namespace) -> int:
    files = migrations.plan(**_where(arguments), target=arguments.to)
    rows = [
        {
            "version": file.version,
            "name": file.name,
            "in_transaction": file.in_transaction,
            "statements": len(file.statements),
        }
        for file in files
    ]
    if arguments.json:
        _print_json(rows)
    elif rows:
        columns = ["version", "file", "in a transaction", "statements"]
        cells = [
            (row["version"], row["name"], "yes" if row["in_transaction"] else "no", row["statements"])
            for row in rows
        ]
        _print_table(f"{len(rows)} to apply", columns, cells)
    else:
        print("nothing to apply")
    return 0


def _apply(arguments: argparse.Namespace) -> int:
    applied = migrations.apply(
        **_where(arguments), lock_timeout=arguments.lock_timeout, wait=arguments.wait, target=arguments.to
    )
    if arguments.json:
        _print_json(applied)
    elif applied:
        cells = [(entry.version, entry.name, entry.duration_ms) for entry in applied]
        _print_table(f"{len(applied)} applied", ["version", "file", "ms"], cells)
    else:
        print("nothing to apply")
    return 0


def _baseline(arguments: argparse.Namespace) -> int:
    entries = migrations.baseline(
        **_where(arguments), version=arguments.version, check=not arguments.no_check, wait=arguments.wait
    )
    if arguments.json:
        _print_json(entries)
    else:
        _print_table(
            f"{len(entries)} on record",
            ["version", "file"],
            [(entry.version, entry.name) for entry in entries],
        )
    return 0


def _resolve(arguments: argparse.Namespace) -> int:
    migrations.resolve(
        **_where(arguments), version=arguments.version, applied=arguments.applied, wait=arguments.wait
    )
    state = "applied" if arguments.applied else "not applied"
    if arguments.json:
        _print_json({"version": arguments.version, "state": state})
    else:
        print(f"version {arguments.version}: {state}")
    return 0


def _sql(arguments: argparse.Namespace) -> int:
    sys.stdout.write(migrations.sql(arguments.path, after=arguments.after, target=arguments.to))
    return 0


def _print_json(value: object) -> None:
    print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def _print_table(title: str, columns: list[str], rows: list[tuple[Any, ...]]) -> None:
    table = Table(title=title, title_justify="left")
    for column in columns:
        # fold: nothing is cut off where the terminal is narrow.
        table.add_column(
            column, justify="right" if column in ("version", "ms", "statements") else "left", overflow="fold"
        )
    for row in rows:
        # Text, not a string: square brackets in a file name or message are no markup.
        table.add_row(*(Text(str(cell)) for cell in row))
    Console().print(table)
