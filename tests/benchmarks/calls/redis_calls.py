"""What Redis answers, beside one GET of redis-py on the same server: a bare round trip."""

from __future__ import annotations

import redis

from .._suite import CALLS
from ._bench import Bench, open_store
from ._contest import Contest
from ._ways import Way, measure_ways, repeated
from ._world import World
from .cases import LIVE

__all__ = ["run"]

_GET = "redis-py GET"


def run(bench: Bench) -> None:
    """One table. On a database of its own: a store with a cache has PostgreSQL note every change for it."""
    redis_url = bench.servers.redis_url
    with (
        bench.database("redis_calls") as url,
        open_store(url, redis_url, pool_size=8) as store,
        redis.Redis.from_url(redis_url) as bare,
    ):
        world = World.build(store)
        bare.set("bench", b"x" * 200)
        ways: dict[str, Way] = {_GET: repeated(lambda: bare.get("bench"))}
        ways |= {name: Contest(case, store, world).ours() for name, case in LIVE.items()}
        seconds = 4 if bench.quick else 20
        found = measure_ways(ways, _GET, bench.rounds(20), 50, seconds=seconds)
    bench.table(f"answered by Redis; ratios to {_GET}", found, CALLS)
