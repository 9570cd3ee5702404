"""Answers from the cache beside a bare GET."""

from __future__ import annotations

from rootstream_store import sessions, streams, users

from ._bench import Bench

__all__ = ["run"]

_GET = "redis-py GET"


def run(bench: Bench) -> None:
    """The table, and the target of a hit."""
    store = bench.store
    ann = users.create(store, username="ann", email="ann@example.org", password="correct horse")
    stream = streams.create(store, ann.id, name="bench")
    token = sessions.create(store, ann.id).token
    bench.bare.set("bench", b"x" * 200)
    figures = bench.calls(
        "cached reads",
        {
            _GET: lambda: bench.bare.get("bench"),
            "sessions.validate": lambda: sessions.validate(store, token),
            "streams.is_live": lambda: streams.is_live(store, stream.id),
        },
        _GET,
        rounds=30,
        calls=200,
    )
    bench.target(
        "sessions.validate from Redis beside a bare GET", 1.15, figures["sessions.validate"]["ratio"]
    )
