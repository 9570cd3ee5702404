"""A few calls in every way there is: the bare drivers, the pools, and other libraries."""

from __future__ import annotations

from .._harness import Figures
from .._suite import CALLS
from ._bench import LIBPQ, Bench
from ._picture import Bar, Panel
from ._replay import Bare
from ._rivals import rivals
from ._ways import Way, measure_ways

__all__ = ["OURS", "SHOWN", "run"]

OURS = "rootstream_store"
HELD = "psycopg, cursor held"

SHOWN = {
    "users.get": "a user by id",
    "users.get_by_username": "a user by name",
    "users.list_": "a page of 100 users",
    "streams.update_stats": "update of a stream's figures, durable",
    "events.append": "append of one event, durable",
}
_KINDS = {OURS: "ours", LIBPQ: "floor"}


def run(bench: Bench) -> None:
    """A table for each call, and the targets."""
    with Bare(bench.database_url) as bare, rivals(bench.database_url) as others:
        for name, title in SHOWN.items():
            contest = bench.contest(name)
            ways: dict[str, Way] = {HELD: contest.bare(bare), OURS: contest.ours(), **others(contest)}
            if bench.native is not None and (native := contest.native(bench.native)) is not None:
                ways = {LIBPQ: native, **ways}
            found = measure_ways(ways, HELD, bench.rounds(30), 100, seconds=2 if bench.quick else 15)
            ordered = dict(sorted(found.items(), key=lambda row: row[1]["p50_us"]))
            bench.table(f"{name}: {title}; ratios to {HELD}", ordered, CALLS)
            bars = [Bar(way, row["p50_us"], _KINDS.get(way, "other")) for way, row in ordered.items()]
            bench.panels.append(Panel(title, "µs a call, median", bars))
            _aim(bench, name, found)


def _aim(bench: Bench, name: str, found: Figures) -> None:
    ours = found[OURS]["p50_us"]
    libpq = found[LIBPQ]["p50_us"] if LIBPQ in found else None
    if name == "users.get":
        if libpq:
            bench.aim("a read by key, beside libpq in C", ours / libpq)
        bench.aim("a read by key, beside psycopg's cursor on a held connection", found[OURS]["ratio"])
        bench.aim("processor time of the client for a read by key", found[OURS]["cpu_us"])
    elif name == "users.list_":
        bench.aim("a page of 100 records, beside psycopg's tuples", found[OURS]["ratio"])
    elif name == "events.append" and libpq:
        bench.aim("an append of one event, durable, beside libpq in C", ours / libpq)
