"""The asynchronous path: what a call costs its thread, and how many events become durable."""

from __future__ import annotations

from ._bench import Bench

__all__ = ["run", "run_durable"]

_COLUMNS = {
    "calls": ("calls", ",.0f"),
    "full": ("full", ",.0f"),
    "p50_us": ("p50 µs", ".2f"),
    "p90_us": ("p90 µs", ".2f"),
    "p99_us": ("p99 µs", ".2f"),
    "p999_us": ("p99.9 µs", ".2f"),
    "max_us": ("max µs", ".0f"),
}
_EVENTS = 400_000


def run(bench: Bench) -> None:
    """Each call timed by its thread; the clock's 20 ns are in the figures."""
    seconds = 3 if bench.quick else 10
    rows = {
        f"bursts of 2,000, {producers} producers": bench.run("enqueue", "burst", producers, seconds)
        for producers in (1, 4)
    }
    rows |= {
        f"2,000/s each, {producers} producers": bench.run("enqueue", "paced", producers, 2000, seconds)
        for producers in (1, 8)
    }
    bench.table("rss_event_append_async", rows, _COLUMNS)
    burst = rows["bursts of 2,000, 1 producers"]
    bench.target("enqueue in bursts, p50", 0.2, burst["p50_us"], "µs")
    bench.target("enqueue in bursts, p99.9", 1.0, burst["p999_us"], "µs")
    bench.target("enqueue paced, 8 producers, p50", 0.8, rows["2,000/s each, 8 producers"]["p50_us"], "µs")


def run_durable(bench: Bench) -> None:
    """From the first call until the last event is committed, with fsync."""
    events = _EVENTS // 4 if bench.quick else _EVENTS
    rows = {}
    for producers in (1, 4, 8):
        found = bench.run("enqueue", "durable", producers, events)
        rows[f"{producers} producers"] = {**found, "per_second": found["stored"] / found["seconds"]}
    bench.table(
        "events stored",
        rows,
        {
            "per_second": ("events/s", ",.0f"),
            "stored": ("events", ",.0f"),
            "batches": ("transactions", ",.0f"),
            "seconds": ("seconds", ".2f"),
        },
    )
    bench.target(
        "durable events a second", 80_000, max(row["per_second"] for row in rows.values()), "", at_most=False
    )
