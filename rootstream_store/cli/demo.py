"""`rootstream-store demo`: a broadcast evening on real servers, measured and checked."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from rootstream_store import migrations
from rootstream_store.cache import Cache
from rootstream_store.database import conninfo
from rootstream_store.demo import Check, Evening, Played, check_evening, write_script
from rootstream_store.embedded import EmbeddedServers
from rootstream_store.settings import Settings, redact
from rootstream_store.store import Store

__all__ = ["add_parser"]

# Steps of the script for each second of --seconds.
_MINUTES_A_SECOND = 4


def add_parser(subparsers: Any) -> None:
    """Adds the command to the parser of `rootstream-store`."""
    parser = subparsers.add_parser(
        "demo",
        help="play a broadcast evening on real servers and check what they hold",
        description="Plays a scripted evening: streamers sign up, go live and are watched. Without URLs it "
        "starts its own PostgreSQL and Valkey and leaves nothing behind. On given servers it adds users, "
        "streams and events under new names. Exit code: 0 when all checks hold, 1 when one fails.",
    )
    parser.add_argument(
        "--database-url", help="PostgreSQL to use (default: DATABASE_URL, else an embedded one)"
    )
    parser.add_argument("--redis-url", help="Redis to use (default: REDIS_URL, else an embedded Valkey)")
    parser.add_argument("--streams", type=_positive, default=30, help="how many streamers (default: 30)")
    parser.add_argument(
        "--seconds",
        type=_positive,
        default=8,
        help="how long the evening lasts after the sign-ups (default: 8)",
    )
    parser.add_argument("--seed", type=int, default=1, help="another seed, another evening (default: 1)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Plays the evening. Returns the exit status."""
    # The bar goes to stderr, so that --json prints nothing but JSON on stdout.
    console = Console(stderr=arguments.json, highlight=False)
    script = write_script(
        streams=arguments.streams, minutes=arguments.seconds * _MINUTES_A_SECOND, seed=arguments.seed
    )
    with _servers(arguments.database_url, arguments.redis_url, console) as (database_url, redis_url):
        applied = migrations.apply(database_url)
        console.print(f"migrations: {len(applied)} applied")
        with Store.open(database_url, redis_url, pool_size=8) as store:
            evening = Evening(store, script, run_id=secrets.token_hex(4))
            with _progress(console) as progress:
                task = progress.add_task("the evening", total=evening.steps)
                played = evening.play(seconds=arguments.seconds, advance=lambda: progress.advance(task))
            checks = check_evening(evening, played)
            summary = _summary(evening, played, checks)
    if arguments.json:
        json.dump(summary, sys.stdout, indent=2)
        print()
    else:
        _show(console, summary, checks)
    return 0 if all(check.ok for check in checks) else 1


@contextlib.contextmanager
def _servers(database_url: str | None, redis_url: str | None, console: Console) -> Iterator[tuple[str, str]]:
    database_url = database_url or os.environ.get("DATABASE_URL")
    redis_url = redis_url or os.environ.get("REDIS_URL")
    # Before anything is started or migrated.
    settings = Settings.create(database_url=database_url or "postgresql:///", redis_url=redis_url)
    conninfo(settings)
    Cache(settings).close()
    with contextlib.ExitStack() as stack:
        if not (database_url and redis_url):
            own = stack.enter_context(EmbeddedServers.start(postgres=not database_url, redis=not redis_url))
            console.print(
                f"started: {'' if database_url else 'PostgreSQL '}{'' if redis_url else 'Valkey'}".strip()
            )
            database_url = database_url or own.database_url
            redis_url = redis_url or own.redis_url
        else:
            console.print(f"using: {redact(database_url)}, {redact(redis_url)}")
        yield database_url, redis_url


def _summary(evening: Evening, played: list[Played], checks: list[Check]) -> dict[str, Any]:
    counters = evening.store.health().redis.counters
    timings = evening.meter.timings()
    return {
        "ok": all(check.ok for check in checks),
        "streams": len(evening.script),
        "viewers": sum(broadcast.total_viewers for broadcast in evening.script),
        "bytes_sent": sum(broadcast.bytes_sent for broadcast in evening.script),
        "seconds": round(evening.seconds, 2),
        "calls": sum(timing.calls for timing in timings),
        "events_appended": sum(one.events_appended for one in played),
        "usage_rows_copied": evening.usage_rows,
        "cache_hits": counters.hits,
        "cache_misses": counters.misses,
        "timings": [asdict(timing) for timing in timings],  # in seconds
        "checks": [asdict(check) | {"ok": check.ok} for check in checks],
    }


def _show(console: Console, summary: dict[str, Any], checks: list[Check]) -> None:
    seconds = summary["seconds"]
    table = Table(
        title=f"\nrepository calls in {seconds:.1f} s", title_justify="left", box=None, pad_edge=False
    )
    table.add_column("call")
    for heading in ("calls", "calls/s", "p50 ms", "p99 ms"):
        table.add_column(heading, justify="right")
    for timing in summary["timings"]:
        table.add_row(
            timing["name"],
            f"{timing['calls']:,}",
            f"{timing['calls'] / seconds:,.0f}",
            f"{timing['p50'] * 1000:.2f}",
            f"{timing['p99'] * 1000:.2f}",
        )
    table.add_section()
    table.add_row("all", f"{summary['calls']:,}", f"{summary['calls'] / seconds:,.0f}", "", "")
    console.print(table)
    reads = summary["cache_hits"] + summary["cache_misses"]
    rate = f" ({summary['cache_hits'] / reads:.0%})" if reads else ""
    console.print(
        f"\n{summary['streams']} streams, {summary['viewers']:,} viewers, "
        f"{summary['bytes_sent'] / 1e12:.2f} TB sent\n"
        f"{summary['events_appended']:,} events appended, {summary['usage_rows_copied']:,} usage rows "
        f"copied, cache: {summary['cache_hits']:,} hits of {reads:,} reads{rate}\n"
    )
    for check in checks:
        verdict = "[green]ok  [/]" if check.ok else "[red]FAIL[/]"
        console.print(f"{verdict} {check.name} ({check.compared:,})")
        for problem in check.problems[:5]:
            console.print(f"       {problem}", markup=False)


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(40),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not {text!r}")
    return int(text)
