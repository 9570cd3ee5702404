"""Start-up, and what a process takes over time."""

from __future__ import annotations

import statistics

from ._bench import Bench

__all__ = ["run_growth", "run_start"]


def run_start(bench: Bench) -> None:
    """New processes, one after the other."""
    runs = [bench.run("lifetime", "start") for _ in range(bench.rounds(20))]
    row = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
    row["resident_mib"] = row["resident_kib"] / 1024
    bench.table(
        "start-up",
        {"median": row},
        {
            "init_ms": ("rss_init ms", ".0f"),
            "open_ms": ("and rss_open ms", ".0f"),
            "resident_mib": ("resident MiB", ".1f"),
        },
    )
    bench.target("start-up, rss_init", 250, row["init_ms"], "ms")


def run_growth(bench: Bench) -> None:
    """Resident memory when warm, after as many, and after as many again: what grew the second time."""
    part = 10 if bench.quick else 1
    rows = {
        "1,000,000 calls": bench.run("lifetime", "calls", 1_000_000 // part, bench.user_id),
        "20,000 threads": bench.run("lifetime", "threads", 20_000 // part, bench.user_id),
    }
    for row in rows.values():
        row["growth_kib"] = row["last_kib"] - row["half_kib"]
    bench.table(
        "resident memory" + (", a tenth of it" if bench.quick else ""),
        rows,
        {
            "first_kib": ("warm KiB", ",.0f"),
            "half_kib": ("once KiB", ",.0f"),
            "last_kib": ("twice KiB", ",.0f"),
            "growth_kib": ("growth KiB", ",.0f"),
            "seconds": ("seconds", ".1f"),
        },
    )
    for name, row in rows.items():
        bench.target(f"growth of resident memory, {name} more", 256, row["growth_kib"], "KiB")
