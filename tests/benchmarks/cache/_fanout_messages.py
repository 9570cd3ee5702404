"""What the publisher and the subscribers of the fan-out share."""

from __future__ import annotations

from rootstream_store import live

__all__ = ["End", "percentiles"]


class End(live.Message, frozen=True, kw_only=True, tag="bench.ended"):
    """There is no more."""

    number: int


def percentiles(delays: list[float]) -> dict[str, float]:
    """In milliseconds."""
    ordered = sorted(delays) or [float("nan")]
    return {
        name: ordered[min(len(ordered) - 1, int(len(ordered) * part))] * 1000
        for name, part in (("p50_ms", 0.5), ("p99_ms", 0.99), ("max_ms", 1.0))
    }
