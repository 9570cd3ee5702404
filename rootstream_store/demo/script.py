"""What will happen: who streams, when, and how many viewers come and go. The same seed writes the same
script."""

from __future__ import annotations

import random
from dataclasses import dataclass

__all__ = ["MINUTE", "Broadcast", "Minute", "write_script"]

MINUTE = 60
"""Seconds of the evening that one step of the script stands for."""

_QUALITIES = (
    # resolution, frames per second, kbit/s, codec
    ("1280x720", 30.0, 3_000, "h264"),
    ("1920x1080", 60.0, 6_000, "h264"),
    ("1920x1080", 60.0, 4_500, "hevc"),
    ("2560x1440", 60.0, 9_000, "av1"),
)
_GAMES = (
    "Chess at midnight",
    "Speedrun any%",
    "Retro night",
    "Ranked grind",
    "Cosy farm",
    "Boss rush",
    "Map making",
)


@dataclass(frozen=True, kw_only=True)
class Minute:
    """One step of a broadcast: `joined` viewers come, then `left` go, and `bytes_sent` were sent to those
    there."""

    joined: int
    left: int
    bytes_sent: int


@dataclass(frozen=True, kw_only=True)
class Broadcast:
    """One streamer's evening."""

    username: str
    title: str
    resolution: str
    fps: float
    bitrate_kbps: int
    codec: str
    is_recorded: bool
    first_minute: int
    """Of the evening, from 0."""
    minutes: tuple[Minute, ...]

    @property
    def total_viewers(self) -> int:
        """Viewers who ever joined."""
        return sum(minute.joined for minute in self.minutes)

    @property
    def departures(self) -> int:
        """Viewers who left before the end."""
        return sum(minute.left for minute in self.minutes)

    @property
    def bytes_sent(self) -> int:
        """To all viewers together."""
        return sum(minute.bytes_sent for minute in self.minutes)

    @property
    def peak_viewers(self) -> int:
        """Most viewers at one time."""
        peak = present = 0
        for minute in self.minutes:
            present += minute.joined
            peak = max(peak, present)
            present -= minute.left
        return peak


def write_script(*, streams: int, minutes: int, seed: int) -> list[Broadcast]:
    """An evening of so many broadcasts and minutes. Few streams have most of the audience, as everywhere."""
    rng = random.Random(seed)
    return [_broadcast(rng, number, minutes) for number in range(streams)]


def _broadcast(rng: random.Random, number: int, evening: int) -> Broadcast:
    length = max(1, round(evening * rng.uniform(0.4, 1.0)))
    first = rng.randint(0, evening - length)
    resolution, fps, bitrate, codec = rng.choice(_QUALITIES)
    # Pareto with a tail of infinite variance: about one stream in ten gets ten times the audience of the
    # median.
    audience = min(5_000, round(6 * rng.paretovariate(1.1)))
    joined, left = [0] * length, [0] * length
    for _ in range(audience):
        # Most come soon after the start; how long one stays knows no age.
        arrival = min(length - 1, int(rng.betavariate(1.2, 3) * length))
        departure = arrival + int(rng.expovariate(1 / 8))
        joined[arrival] += 1
        if departure < length:
            left[departure] += 1
    present, minutes = 0, []
    for come, go in zip(joined, left, strict=True):
        minutes.append(Minute(joined=come, left=go, bytes_sent=(present + come) * bitrate * 125 * MINUTE))
        present += come - go
    return Broadcast(
        username=f"streamer_{number:03}",
        title=rng.choice(_GAMES),
        resolution=resolution,
        fps=fps,
        bitrate_kbps=bitrate,
        codec=codec,
        is_recorded=rng.random() < 0.5,
        first_minute=first,
        minutes=tuple(minutes),
    )
