"""Every repository function beside its own statements by the bare drivers, on connections that are held."""

from __future__ import annotations

import statistics

from .._harness import Figures
from ._bench import Bench
from ._replay import Bare
from ._ways import Way, measure_ways
from .cases import CASES

__all__ = ["run"]

_COLUMNS = {
    "libpq_us": ("libpq µs", ".1f"),
    "psycopg_us": ("psycopg µs", ".1f"),
    "ours_us": ("store µs", ".1f"),
    "to_libpq": ("x libpq", ".2f"),
    "to_psycopg": ("x psycopg", ".2f"),
    "psycopg_cpu_us": ("CPU: psycopg", ".1f"),
    "ours_cpu_us": ("store", ".1f"),
}
_TURN_US = 6_000
_LEAST, _MOST = 5, 100
_MEDIAN = "the median of all"


def run(bench: Bench) -> None:
    """One table with a row for each call."""
    rows: Figures = {}
    with Bare(bench.database_url) as bare:
        for name in CASES:
            rows[name] = _row(bench, bare, name)
    rows[_MEDIAN] = {
        key: statistics.median(row[key] for row in rows.values() if key in row)
        for key in ("to_libpq", "to_psycopg")
        if any(key in row for row in rows.values())
    }
    bench.table("every repository function: p50 of a call, and processor time of the client", rows, _COLUMNS)


def _row(bench: Bench, bare: Bare, name: str) -> dict[str, float]:
    contest = bench.contest(name)
    ways: dict[str, Way] = {"ours": contest.ours(), "psycopg": contest.bare(bare)}
    if bench.native is not None and (native := contest.native(bench.native)) is not None:
        ways["libpq"] = native
    # As many calls as fill a turn: the first ones of a turn find the caches cold.
    calls = round(min(_MOST, max(_LEAST, _TURN_US / ways["ours"](_LEAST).p50_us)))
    found = measure_ways(ways, "psycopg", bench.rounds(12), calls, seconds=0.3 if bench.quick else 2.0)
    row = {f"{way}_us": figures["p50_us"] for way, figures in found.items()}
    row |= {f"{way}_cpu_us": figures["cpu_us"] for way, figures in found.items()}
    row["to_psycopg"] = row["ours_us"] / row["psycopg_us"]
    if "libpq_us" in row:
        row["to_libpq"] = row["ours_us"] / row["libpq_us"]
    return row
