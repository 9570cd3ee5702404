"""`rootstream-store status`: are the servers well?"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rootstream_store.errors import RootStreamError, SettingsError
from rootstream_store.store import Store

if TYPE_CHECKING:
    from rootstream_store.health import Health

__all__ = ["add_parser", "add_urls"]

_EXIT = {"ok": 0, "down": 1, "degraded": 4}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command `status`."""
    parser = subparsers.add_parser(
        "status",
        help="health of PostgreSQL, Redis and the schema",
        description="Asks both servers how they are. Exit code: 0 ok, 1 down (PostgreSQL does not answer), "
        "2 a wrong command line or setting, 4 degraded (the lines above the table tell why).",
    )
    add_urls(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.set_defaults(run=_run)


def add_urls(parser: argparse.ArgumentParser) -> None:
    """Adds --database-url and --redis-url; without them the environment variables count."""
    parser.add_argument(
        "--database-url",
        metavar="URL",
        help="PostgreSQL connection string (default: the environment variable DATABASE_URL, "
        "which other users of the machine cannot read)",
    )
    parser.add_argument(
        "--redis-url",
        metavar="URL",
        help="Redis URL (default: the environment variable REDIS_URL, else none)",
    )


def _run(arguments: argparse.Namespace) -> int:
    try:
        store = Store.open(
            arguments.database_url,
            arguments.redis_url,
            pool_min_size=0,
            pool_size=1,
            application_name="rootstream-store status",
        )
    except SettingsError:
        raise
    except RootStreamError as error:
        if arguments.json:
            _print_json({"status": "down", "reasons": [str(error)]})
        else:
            print(f"down: {error}")
        return _EXIT["down"]
    with store:
        health = store.health()
    if arguments.json:
        _print_json(health)
    else:
        _print_table(health)
    return _EXIT[health.status]


def _print_json(value: object) -> None:
    print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def _print_table(health: Health) -> None:
    # Plain print: an error's text may hold square brackets, which rich takes for markup.
    print(health.status)
    for reason in health.reasons:
        print(f"  {reason}")
    table = Table()
    for column in ("part", "state", "details"):
        # fold: nothing is cut off where the terminal is narrow.
        table.add_column(column, overflow="fold")
    for row in _rows(health):
        table.add_row(*map(Text, row))
    Console().print(table)


def _rows(health: Health) -> list[tuple[str, str, str]]:
    postgres, pool, redis, schema = health.postgres, health.pool, health.redis, health.migrations
    rows: list[tuple[str, str, str]] = []
    if postgres.reachable:
        role = "primary" if postgres.is_primary else "standby"
        details = f"{postgres.server_version}, {role}, {postgres.latency_ms:.1f} ms, {postgres.url}"
        rows.append(("PostgreSQL", "read-only" if postgres.is_read_only else "up", details))
    else:
        rows.append(("PostgreSQL", "down", postgres.url))
    rows.append(("pool", "exhausted" if pool.exhausted else "up", f"{pool.in_use} of {pool.max} in use"))
    if redis.reachable:
        used = "unknown" if redis.used_memory is None else f"{redis.used_memory / 1e6:.1f} MB"
        server = f"{redis.server_name or 'unknown server'} {redis.server_version or ''}".strip()
        details = f"{server}, {redis.latency_ms:.1f} ms, memory {used}, {redis.url}"
        rows.append(("Redis", "up", details))
    else:
        rows.append(("Redis", "down" if redis.enabled else "not configured", redis.url or ""))
    waiting = health.invalidations
    if redis.enabled and waiting.waiting is not None:
        age = "" if waiting.oldest_seconds is None else f", the oldest for {waiting.oldest_seconds:.1f} s"
        rows.append(("invalidations", "", f"{waiting.waiting} wait{age}"))
    if schema.version is None:
        rows.append(("migrations", "unknown", schema.error or ""))
    else:
        state = "problem" if schema.problems else "pending" if schema.pending else "up to date"
        rows.append(("migrations", state, f"version {schema.version}, {len(schema.pending)} pending"))
    rows.append(("library", "", health.version or "run from a checkout"))
    return rows
