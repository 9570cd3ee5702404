"""Synchronous calls: what it costs to cross into Python, a row by its id beside Python and libpq, and an
answer from Redis beside Python and hiredis."""

from __future__ import annotations

import ctypes.util
import random
import statistics
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

import psycopg_binary

from rootstream_store import Store, sessions, users
from rootstream_store.cache import keys
from rootstream_store.queries import query
from rootstream_store.records import User

from ._bench import Bench, Windows

__all__ = ["run", "run_redis", "run_threads"]

_COLUMNS = {
    "p50_us": ("p50 µs", ".2f"),
    "ratio": ("ratio", ".2f"),
    "p99_us": ("p99 µs", ".1f"),
    "cpu_us": ("client CPU µs", ".1f"),
}
_SECONDS = 0.25
"""Of one window."""


def _libpq() -> Path:
    """The one that psycopg brings."""
    folder = Path(psycopg_binary.__file__).parent.parent / "psycopg_binary.libs"
    return next(folder.glob("libpq-*.so*"))


def _windows(bench: Bench, hiredis: str = "", token: str = "", key: str = "") -> Windows:
    """`hiredis`: the name of its library, if any. `token`, `key`: a login session and its key in Redis."""
    url = bench.servers.redis_url
    socket = unquote(urlsplit(url).path)
    text = query("users/get", User).sent_text.decode()
    servers = bench.servers.database_url, url, socket
    return Windows(bench, "calls", *servers, _libpq(), hiredis, text, bench.user_id, token, key)


def _python(once: Callable[[], object], threads: int, seconds: float) -> dict[str, float]:
    """As a window of the program in C."""
    times: list[list[float]] = [[] for _ in range(threads)]
    until = time.perf_counter() + seconds

    def call(mine: list[float]) -> None:
        now = time.perf_counter()
        while now < until:
            once()
            after = time.perf_counter()
            mine.append(after - now)
            now = after

    start, cpu = time.perf_counter(), time.process_time()
    workers = [threading.Thread(target=call, args=(mine,)) for mine in times]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    found = sorted(one for mine in times for one in mine)
    return {
        "p50_us": found[len(found) // 2] * 1e6,
        "p99_us": found[len(found) * 99 // 100] * 1e6,
        "cpu_us": cpu / len(found) * 1e6,
        "per_second": len(found) / wall,
    }


def _shuffled(ways: dict[str, Callable[[], dict[str, float]]], rounds: int) -> dict[str, dict[str, float]]:
    """The medians over the rounds, in each of which every way has a window, in any order."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    order = list(ways.items())
    for number in range(rounds + 1):
        random.shuffle(order)
        for name, way in order:
            window = way()
            if number:  # the first round warms up
                found[name].append(window)
    return {
        name: {key: statistics.median(window[key] for window in windows) for key in windows[0]}
        for name, windows in found.items()
    }


def run(bench: Bench) -> None:
    """Crossing, and a user by id in one thread."""
    with _windows(bench) as native:
        crossing = _shuffled({"rss_noop": lambda: native.ask("noop", 1, _SECONDS)}, bench.rounds(20))
        bench.table("into Python and back", crossing, {k: v for k, v in _COLUMNS.items() if k != "ratio"})
        bench.target("crossing", 1.3, crossing["rss_noop"]["p50_us"], "µs")
        figures = _shuffled(
            {
                "libpq, PQexecPrepared": lambda: native.ask("libpq", 1, _SECONDS),
                "users.get": lambda: _python(partial(users.get, bench.store, bench.user_id), 1, _SECONDS),
                "rss_user_get": lambda: native.ask("get", 1, _SECONDS),
            },
            bench.rounds(40),
        )
    base = figures["users.get"]["p50_us"]
    for row in figures.values():
        row["ratio"] = row["p50_us"] / base
    bench.table("a user by id, one thread; ratios to users.get", figures, _COLUMNS)
    bench.target("rss_user_get beside users.get in Python", 1.15, figures["rss_user_get"]["ratio"])


def run_redis(bench: Bench) -> None:
    """An answer that Redis has, in one thread: the login session of a token, and the value beneath it."""
    hiredis = ctypes.util.find_library("hiredis") or ""
    if not hiredis:
        bench.console.print("no libhiredis on this machine: GET in C is left out (Debian: libhiredis0.14)")
    with Store.open(bench.servers.database_url, bench.servers.redis_url) as store:
        session = sessions.create(store, bench.user_id)
        token = session.token.reveal()
        sessions.validate(store, token)  # is in Redis from now on
        with _windows(bench, hiredis, token, keys.session(session.token_hash)) as native:
            ways = {
                "hiredis, GET": lambda: native.ask("hiredis", 1, _SECONDS),
                "rss_cache_get": lambda: native.ask("cache_get", 1, _SECONDS),
                "sessions.validate": lambda: _python(partial(sessions.validate, store, token), 1, _SECONDS),
                "rss_session_validate": lambda: native.ask("validate", 1, _SECONDS),
            }
            if not hiredis:
                del ways["hiredis, GET"]
            figures = _shuffled(ways, bench.rounds(40))
    for row in figures.values():
        row["to_python"] = row["p50_us"] / figures["sessions.validate"]["p50_us"]
        if hiredis:
            row["to_hiredis"] = row["p50_us"] / figures["hiredis, GET"]["p50_us"]
    columns = {k: v for k, v in _COLUMNS.items() if k != "ratio"}
    columns |= {"to_hiredis": ("to hiredis", ".2f"), "to_python": ("to sessions.validate", ".2f")}
    bench.table("a login session from Redis, one thread; ratios of p50", figures, columns)
    bench.target(
        "rss_session_validate beside sessions.validate in Python",
        1.15,
        figures["rss_session_validate"]["to_python"],
    )


def run_threads(bench: Bench) -> None:
    """The same in several threads, native ones beside those of Python."""
    rows: dict[str, dict[str, float]] = {}
    get = partial(users.get, bench.store, bench.user_id)
    with _windows(bench) as native:
        for threads in (1, 2, 4, 8):
            found = _shuffled(
                {
                    "python": partial(_python, get, threads, _SECONDS),
                    "native": partial(native.ask, "get", threads, _SECONDS),
                },
                bench.rounds(40),
            )
            base = found["python"]["per_second"]
            for name, row in found.items():
                rows[f"{threads} {name}"] = {**row, "ratio": row["per_second"] / base}
            bench.target(
                f"calls a second, {threads} native threads beside Python's",
                1.0,
                rows[f"{threads} native"]["ratio"],
                at_most=False,
            )
    columns = {"per_second": ("calls/s", ",.0f"), **_COLUMNS}
    bench.table("a user by id in threads; ratios of calls/s", rows, columns)
