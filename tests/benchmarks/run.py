"""Repository calls beside the bare driver, in one run: `make bench`.

Servers and client share one CPU (taskset), so that the scheduler's choice of core does not decide the result;
rounds of the contenders are interleaved and medians taken. Ratios within a run are what to read: machines are
noisy.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import redis
from rich.console import Console
from rich.table import Table

from rootstream_store import Store, events, migrations, sessions, streams, users
from rootstream_store.embedded import EmbeddedServers
from rootstream_store.repositories.users import _GET

Call = Callable[[], object]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--calls", type=int, default=200, help="in each round of each contender")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    results = {}
    with _servers() as (database_url, redis_url), Store.open(database_url, redis_url, pool_size=8) as store:
        for title, baseline, contenders in _comparisons(store, database_url, redis_url):
            results[title] = _measure(contenders, baseline, arguments.rounds, arguments.calls)
    if arguments.json:
        json.dump(results, sys.stdout, indent=2)
        print()
    else:
        _show(results)
    return 0


@contextlib.contextmanager
def _servers() -> Iterator[tuple[str, str]]:
    # Durable, as in production: fsync on. Inherits the pinning to one CPU.
    with EmbeddedServers.start() as servers:
        migrations.apply(servers.database_url)
        yield servers.database_url, servers.redis_url


def _comparisons(
    store: Store, database_url: str, redis_url: str
) -> Iterator[tuple[str, str, dict[str, Call]]]:
    ann = users.create(store, username="ann", email="ann@example.org", password="correct horse")
    stream = streams.create(store, ann.id, name="bench")
    token = sessions.create(store, ann.id).token
    sessions.validate(store, token)
    bare_redis = redis.Redis.from_url(redis_url)
    bare_redis.set("bench", b"x" * 200)
    numbers = iter(range(10**9))
    with psycopg.connect(database_url, autocommit=True) as bare:
        cursor = bare.cursor(binary=True)
        by_id = {"user_id": ann.id}
        text = _GET.text

        def in_transaction() -> object:
            with store.transaction() as tx:
                return users.get(tx, ann.id)

        yield (
            "load a user",
            "psycopg, held connection",
            {
                "psycopg, held connection": lambda: bare.execute(text, by_id, prepare=True).fetchone(),
                "psycopg, reused cursor": lambda: cursor.execute(text, by_id, prepare=True).fetchone(),
                "users.get, pool": lambda: users.get(store, ann.id),
                "users.get, transaction": in_transaction,
            },
        )
        insert = (
            "INSERT INTO event_log (aggregate_id, aggregate_type, version, event_type, event_data) "
            "VALUES ('bench', 'bare', %s, 'Happened', '{}')"
        )
        yield (
            "append an event (durable)",
            "psycopg, INSERT",
            {
                "psycopg, INSERT": lambda: bare.execute(insert, (next(numbers) + 1,), prepare=True),
                "events.append": lambda: events.append(store, "stream", "bench", "Happened", {}),
            },
        )
        yield (
            "cached reads",
            "redis-py GET",
            {
                "redis-py GET": lambda: bare_redis.get("bench"),
                "sessions.validate": lambda: sessions.validate(store, token),
                "streams.is_live": lambda: streams.is_live(store, stream.id),
            },
        )
    bare_redis.close()


def _measure(
    contenders: dict[str, Call], baseline: str, rounds: int, calls: int
) -> dict[str, dict[str, float]]:
    wall: dict[str, list[float]] = {name: [] for name in contenders}
    cpu: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 2):
        for name, call in contenders.items():
            times = []
            cpu_start = time.thread_time()
            for _ in range(calls):
                start = time.perf_counter()
                call()
                times.append(time.perf_counter() - start)
            if number >= 2:  # two rounds to warm up: statements prepared, caches filled
                wall[name].append(statistics.median(times) * 1e6)
                cpu[name].append((time.thread_time() - cpu_start) / calls * 1e6)
    medians = {name: statistics.median(values) for name, values in wall.items()}
    return {
        name: {
            "p50_us": medians[name],
            "ratio": medians[name] / medians[baseline],
            "cpu_us": statistics.median(cpu[name]),
        }
        for name in contenders
    }


def _show(results: dict[str, dict[str, dict[str, Any]]]) -> None:
    console = Console()
    for title, rows in results.items():
        table = Table(title=title, title_justify="left", box=None)
        table.add_column("way")
        for heading in ("p50 µs", "ratio", "client CPU µs"):
            table.add_column(heading, justify="right")
        for name, row in rows.items():
            table.add_row(name, f"{row['p50_us']:.1f}", f"{row['ratio']:.2f}", f"{row['cpu_us']:.1f}")
        console.print(table)
        console.print()


if __name__ == "__main__":
    sys.exit(main())
