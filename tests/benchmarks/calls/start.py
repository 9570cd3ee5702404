"""What is paid once: the import, the statements that a first call prepares, the memory of a connection."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys

from .._harness import Figures
from ._bench import Bench, open_store
from ._contest import Contest
from ._memory import MODULE, WAYS
from .cases import CASES

__all__ = ["run"]

_DRIVERS = "psycopg, psycopg_pool, redis, msgspec, argon2, uuid_utils, hiredis"
_COUNT = "SELECT count(*) FROM pg_prepared_statements"
_IMPORTS = {
    "python, nothing imported": "",
    "the drivers": f"import {_DRIVERS}",
    "rootstream_store": "import rootstream_store",
}
_CLOCK = """\
import time
start, cpu = time.perf_counter(), time.process_time()
{}
print(time.perf_counter() - start, time.process_time() - cpu)
"""


def run(bench: Bench) -> None:
    """Three tables, and the target of the import."""
    _imports(bench)
    _prepared(bench)
    _memory(bench)


def _imports(bench: Bench) -> None:
    """In fresh processes, in turns."""
    # As where it is installed: compiled once.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    times: dict[str, list[tuple[float, ...]]] = {name: [] for name in _IMPORTS}
    for _ in range(bench.rounds(20) + 1):
        for name, statement in _IMPORTS.items():
            program = [sys.executable, "-c", _CLOCK.format(statement)]
            done = subprocess.run(program, env=environment, stdout=subprocess.PIPE, text=True, check=True)
            times[name].append(tuple(float(part) * 1e3 for part in done.stdout.split()))
    # Without the first, which compiles what is not compiled yet.
    rows: Figures = {}
    for name, found in times.items():
        wall, cpu = zip(*found[1:], strict=True)
        rows[name] = {"ms": statistics.median(wall), "cpu_ms": statistics.median(cpu)}
    drivers, whole = rows["the drivers"], rows["rootstream_store"]
    beyond = rows["rootstream_store beyond its drivers"] = {key: whole[key] - drivers[key] for key in whole}
    columns = {"ms": ("p50 ms", ".0f"), "cpu_ms": ("CPU ms", ".0f")}
    bench.table("import, in a fresh process", rows, columns)
    bench.aim("processor time of the import, beyond that of the drivers", beyond["cpu_ms"])


def _prepared(bench: Bench) -> None:
    """Statements that the server holds for a connection: each is to be prepared once."""
    with open_store(bench.database_url, pool_size=1) as store:
        contests = [Contest(case, store, bench.world) for case in CASES.values()]
        get = Contest(CASES["users.get"], store, bench.world).ours()

        def count() -> int:
            connection = store._pool.acquire()
            try:
                row = connection.execute(_COUNT, prepare=False).fetchone()
            finally:
                store._pool.release(connection)
            assert row is not None
            return int(row[0])

        counts = [count()]
        get(1)
        counts.append(count())
        get(20)
        counts.append(count())
        for number in (1, 2):
            for contest in contests:
                contest.ours()(number)
            counts.append(count())
    names = ("a first users.get", "20 more", "every repository function once", "each of them twice more")
    rows: Figures = {
        name: {"prepared": after - before}
        for name, before, after in zip(names, counts, counts[1:], strict=False)
    }
    bench.table("statements prepared by", rows, {"prepared": ("statements", ".0f")})
    bench.aim("statements prepared twice on a connection", counts[-1] - counts[-2])


def _memory(bench: Bench) -> None:
    """Of a process of its own, after each connection was used."""
    rows = {}
    for way in WAYS:
        arguments = [bench.database_url, way, str(bench.world.user_id), str(bench.world.stream_id)]
        done = subprocess.run(
            [sys.executable, "-m", MODULE, *arguments], stdout=subprocess.PIPE, text=True, check=True
        )
        rows[way] = json.loads(done.stdout)
    columns = {
        "client_kib": ("KiB of the client", ",.0f"),
        "server_kib": ("private KiB of the server", ",.0f"),
    }
    bench.table("memory of one of 20 connections, used", rows, columns)
