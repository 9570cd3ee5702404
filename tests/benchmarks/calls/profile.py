"""Where one repository call spends its time: `make profile ARGS="users.get"`.

A profiler in the process would take longer than what it looks at. So the call is peeled: each layer is
measured with all that lies under it, in turns, and what it adds is the difference to the layer below. A call
of several statements is told statement by statement. `--flame` samples from outside, by py-spy where that is
installed.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
import timeit
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from psycopg import generators
from psycopg.adapt import PyFormat
from psycopg.pq import Format
from psycopg.pq.abc import PGresult
from rich.console import Console

from rootstream_store import Store, migrations, users
from rootstream_store.database import execute, fetch_all, fetch_up_to_one
from rootstream_store.embedded import EmbeddedServers

from .._harness import Figures, on_one_cpu, show
from ._bench import open_store
from ._contest import Contest
from ._recording import Statement
from ._ways import Way, each, measure_ways
from ._world import World
from .cases import CASES

__all__ = ["layers", "statements"]

Values = tuple[Sequence[Any], Sequence[Format] | None]
_INT8 = 20
_COLUMNS = {
    "p50_us": ("p50 µs", ".1f"),
    "added_us": ("added µs", ".1f"),
    "share": ("of all", ".0%"),
    "cpu_us": ("client CPU µs", ".1f"),
    "added_cpu_us": ("added", ".1f"),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="make profile", description=__doc__)
    parser.add_argument(
        "call", choices=sorted(CASES), metavar="CALL", help="such as users.get, events.append"
    )
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--calls", type=int, default=100, help="in each round of each layer")
    parser.add_argument("--durable", action="store_true", help="with fsync, which else hides what writes do")
    parser.add_argument("--flame", type=Path, metavar="SVG", help="a flame graph, by py-spy, of 5 s of calls")
    parser.add_argument("--loop", type=float, metavar="SECONDS", help="only call, for a profiler outside")
    arguments = parser.parse_args()
    if arguments.flame is not None:
        return _flame(arguments.call, arguments.flame)
    users.configure_passwords(time_cost=1, memory_cost=8, parallelism=1)
    console = Console(width=110)
    with on_one_cpu(), _store(durable=arguments.durable) as store:
        contest = Contest(CASES[arguments.call], store, World.build(store))
        if arguments.loop is not None:
            ours, end = contest.ours(), time.monotonic() + arguments.loop
            while time.monotonic() < end:
                ours(100)
            return 0
        steps = contest.steps(1)[0]
        if len(steps) == 1 and isinstance(steps[0], Statement):
            found = layers(contest, store, arguments.rounds, arguments.calls)
            show(console, f"{arguments.call}: {contest.query.file}, layer by layer", found, _COLUMNS)
            title = "in a loop of their own, where no server has run in between and emptied the CPU's caches"
            show(console, title, alone(contest, store), {"p50_us": _COLUMNS["p50_us"]})
        else:
            found = statements(contest, store, arguments.rounds, arguments.calls)
            columns = {key: _COLUMNS[key] for key in ("p50_us", "share")} | {"times": ("times", ".0f")}
            show(console, f"{arguments.call}: statement by statement", found, columns)
    return 0


@contextmanager
def _store(*, durable: bool) -> Iterator[Store]:
    with EmbeddedServers.start(redis=False, durable=durable) as servers:
        migrations.apply(servers.database_url)
        with open_store(servers.database_url, pool_size=1) as store:
            yield store


def layers(contest: Contest, store: Store, rounds: int, calls: int) -> Figures:
    """A call of one statement, from the round trip outwards; of each layer what it takes with all below."""
    name = contest.case.name
    found = measure_ways({**_layers(contest, store), name: contest.ours()}, name, rounds, calls)
    below, below_cpu = 0.0, 0.0
    whole = found[name]["p50_us"]
    for row in found.values():
        row["added_us"], row["added_cpu_us"] = row["p50_us"] - below, row["cpu_us"] - below_cpu
        row["share"] = row["added_us"] / whole
        below, below_cpu = row["p50_us"], row["cpu_us"]
    return found


def _layers(contest: Contest, store: Store) -> dict[str, Way]:
    """From the inside out. First the steps of `rootstream_store.database`, then its functions, then the
    store."""
    query, verb = contest.query, contest.statement.verb
    contest.ours()(1)  # so that the store's only connection is there
    connection = store._pool.acquire()
    store._pool.release(connection)
    pgconn, transformer = connection.pgconn, connection.transformer
    auto = [PyFormat.AUTO] * len(query.parameters)
    action = {"run": execute, "all": fetch_all}.get(verb, fetch_up_to_one)

    def dumped(params: dict[str, Any]) -> Values:
        values = transformer.dump_sequence([params[key] for key in query.parameters], auto)
        return values, transformer.formats

    dumped(contest.statement.params)
    types = [_INT8 if oid == _INT8 else 0 for oid in transformer.types or ()]
    pgconn.prepare(b"layers", query.sent_text, types)

    def exchange(values: Values) -> PGresult:
        return pgconn.exec_prepared(b"layers", values[0], values[1], 1)

    def interruptible(values: Values) -> PGresult:
        pgconn.send_query_prepared(b"layers", values[0], values[1], 1)
        result: PGresult = connection.wait(generators.execute(pgconn))[0]
        return result

    def load(params: dict[str, Any]) -> object:
        result = interruptible(dumped(params))
        transformer.set_pgresult(result)
        return transformer.load_rows(0, result.ntuples, tuple)

    def pooled(params: dict[str, Any]) -> object:
        query.check(params)
        held = store._pool.acquire()
        try:
            return action(held, query, params)
        finally:
            store._pool.release(held)

    def found(params: dict[str, Any]) -> object:
        result = execute(connection, query, params)
        return result.count if verb == "run" else result.rows()

    def checked(params: dict[str, Any]) -> object:
        query.check(params)
        return action(connection, query, params)

    call = getattr(store, verb)
    parameters = contest.parameters
    ways: dict[str, Way] = {
        "the round trip, by PQexecPrepared": each(lambda n: [dumped(p) for p in parameters(n)], exchange),
        "+ a wait that Ctrl-C ends": each(lambda n: [dumped(p) for p in parameters(n)], interruptible),
        "+ values to bytes": each(parameters, lambda params: interruptible(dumped(params))),
    }
    if verb != "run":
        ways["+ bytes to tuples"] = each(parameters, load)
    return {
        **ways,
        "+ the statement found, errors told": each(parameters, found),
        "+ records": each(parameters, lambda params: action(connection, query, params)),
        "+ values checked": each(parameters, checked),
        "+ the pool": each(parameters, pooled),
        f"+ the verb, Store.{verb}": each(parameters, lambda params: call(query, **params)),
    }


def alone(contest: Contest, store: Store) -> Figures:
    """What parts of a call take again and again, with no server in between."""
    query, pool, params = contest.query, store._pool, contest.statement.params
    connection = pool.acquire()
    pool.release(connection)
    auto = [PyFormat.AUTO] * len(query.parameters)
    values = [params[key] for key in query.parameters]
    parts: dict[str, Callable[[], object]] = {
        "values to bytes": lambda: connection.transformer.dump_sequence(values, auto),
        "values checked": lambda: query.check(params),
        "the pool": lambda: pool.release(pool.acquire()),
    }
    return {
        name: {"p50_us": min(timeit.repeat(part, number=2000, repeat=9)) / 2000 * 1e6}
        for name, part in parts.items()
    }


def statements(contest: Contest, store: Store, rounds: int, calls: int) -> Figures:
    """A call of several statements: how often each is run in a call, and how long all that takes."""
    spent: dict[str, float] = defaultdict(float)
    times: dict[str, int] = defaultdict(int)

    def observer(name: str, work: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        try:
            return work()
        finally:
            spent[name] += time.perf_counter() - start
            times[name] += 1

    whole = contest.ours()
    whole(calls)
    items = [contest.items(calls) for _ in range(rounds)]
    store.observe(observer)
    start = time.perf_counter()
    for one in items:
        for item in one:
            contest.case.call(store, item)
    took = time.perf_counter() - start
    store.observe(None)
    made = rounds * calls
    found = {
        name: {"p50_us": seconds / made * 1e6, "share": seconds / took, "times": times[name] / made}
        for name, seconds in spent.items()
    }
    rest = took - sum(spent.values())
    found["transactions, and Python around"] = {"p50_us": rest / made * 1e6, "share": rest / took}
    found[contest.case.name] = {"p50_us": took / made * 1e6, "share": 1.0, "times": 1.0}
    return found


def _flame(call: str, target: Path) -> int:
    """py-spy looks at another process from outside, many times a second."""
    if shutil.which("py-spy", path=str(Path(sys.executable).parent)) is None:
        print("py-spy is not installed: .venv/bin/pip install py-spy", file=sys.stderr)
        return 1
    spy = [str(Path(sys.executable).parent / "py-spy"), "record", "--native", "--rate", "500"]
    loop = [sys.executable, "-m", __spec__.name, call, "--loop", "5"]
    return subprocess.run([*spy, "--output", str(target), "--", *loop], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
