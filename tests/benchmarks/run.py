"""Repository calls beside the bare driver, in one run: `make bench`. How it is measured: see `_harness`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator

import msgspec
import psycopg
import redis
from rich.console import Console

from rootstream_store import Store, events, sessions, streams, users
from rootstream_store.repositories.users import _GET

from ._harness import Call, durable_servers, measure, on_one_cpu, show


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--calls", type=int, default=200, help="in each round of each contender")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    results = {}
    with (
        on_one_cpu(),
        durable_servers() as servers,
        Store.open(servers.database_url, servers.redis_url, pool_size=8) as store,
    ):
        for title, baseline, contenders in _comparisons(store, servers.database_url, servers.redis_url):
            results[title] = measure(contenders, baseline, arguments.rounds, arguments.calls)
    if arguments.json:
        json.dump(results, sys.stdout, indent=2)
        print()
        return 0
    console = Console()
    columns = {"p50_us": ("p50 µs", ".1f"), "ratio": ("ratio", ".2f"), "cpu_us": ("client CPU µs", ".1f")}
    for title, figures in results.items():
        show(console, title, figures, columns)
    return 0


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
    with (
        psycopg.connect(database_url, autocommit=True) as bare,
        # A store with Redis answers users.get from there.
        Store(msgspec.structs.replace(store.settings, redis_url=None)) as without_redis,
    ):
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
                "users.get, pool": lambda: users.get(without_redis, ann.id),
                "users.get, from Redis": lambda: users.get(store, ann.id),
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


if __name__ == "__main__":
    sys.exit(main())
