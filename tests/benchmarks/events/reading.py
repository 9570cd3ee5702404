"""Reading: 1,000 events of one aggregate, an aggregate with its snapshot, a page of the whole log."""

from __future__ import annotations

import contextlib
from typing import Any, Final

import msgspec
import psycopg
from psycopg.types.json import set_json_loads

from rootstream_store import Store, events
from rootstream_store.records import Event

from .._harness import Call
from ._bench import Bench
from ._eventsourcing import Recorder, originator, recorder
from ._logs import AGGREGATES, DATA, FILLED_VERSION

__all__ = ["run"]

# With a snapshot at the last full hundred and 50 events after it.
_LENGTHS: Final = (150, 1_050, 10_050)
_AFTER_SNAPSHOT: Final = 50
_LOG: Final = AGGREGATES * FILLED_VERSION

_SELECT: Final = """
SELECT
    position, aggregate_id, aggregate_type, version, event_type, event_id, event_data, metadata,
    user_id, timestamp
FROM event_log
WHERE aggregate_id = %s AND aggregate_type = 'stream' AND version > %s
ORDER BY version
LIMIT 1000
"""
_SELECT_SNAPSHOT: Final = """
SELECT version, state
FROM snapshots
WHERE aggregate_id = %s AND aggregate_type = 'stream' AND schema_version = 1
ORDER BY version DESC
LIMIT 1
"""
_SELECT_PAGE: Final = """
SELECT
    position, aggregate_id, aggregate_type, version, event_type, event_id, event_data, metadata,
    user_id, timestamp
FROM event_log
WHERE position > %s
ORDER BY position
LIMIT 1000
"""


def run(bench: Bench) -> None:
    """A table each, and the targets of loading."""
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(bench.store())
        _append_long_ones(store)
        bare = stack.enter_context(psycopg.connect(store.settings.database_url, autocommit=True))
        bare.execute("VACUUM ANALYZE")
        plain = stack.enter_context(psycopg.connect(store.settings.database_url, autocommit=True))
        set_json_loads(msgspec.json.decode, bare)
        url = bench.database()
        other = stack.enter_context(recorder(url))
        if other is not None:
            for length in _LENGTHS:
                for first in range(1, length + 1, 50):  # with 10,000 at once it never returns
                    other.append(_id(length), range(first, first + 50))
        bench.calls("read 1,000 events of one aggregate", *_reads(store, bare, plain, other), 24, 5)
        _load(bench, store, bare)
        bench.calls("a page of 1,000 from the middle of the log", *_pages(store, bare, other), 24, 5)


def _id(length: int) -> str:
    return str(1_000_000 + length)


def _append_long_ones(store: Store) -> None:
    for length in _LENGTHS:
        name = _id(length)
        for first in range(1, length + 1, 50):
            events.append_many(store, "stream", name, [events.NewEvent("ViewerJoined", DATA, user_id=7)] * 50)
            version = first + 49
            if version % 100 == 0:
                events.save_snapshot(store, "stream", name, version=version, state={"viewers": version})


def _reads(
    store: Store, bare: psycopg.Connection, plain: psycopg.Connection, other: Recorder | None
) -> tuple[dict[str, Call], str]:
    name = _id(1_050)
    found: dict[str, Call] = {
        "bare SELECT, binary, msgspec": lambda: (
            bare.cursor(binary=True).execute(_SELECT, (name, 0), prepare=True).fetchall()
        ),
        "bare SELECT, psycopg's defaults": lambda: plain.execute(_SELECT, (name, 0)).fetchall(),
        "events.read": lambda: events.read(store, "stream", name),
        "events.stream": lambda: _drain(store, name),
    }
    if other is not None:
        found["eventsourcing, msgspec"] = lambda: [
            msgspec.json.decode(event.state)
            for event in other.inner.select_events(originator(name), limit=1000)
        ]
    return found, "bare SELECT, binary, msgspec"


def _drain(store: Store, name: str) -> int:
    with events.stream(store, "stream", name, to_version=1000) as found:
        return sum(1 for _ in found)


def _pages(store: Store, bare: psycopg.Connection, other: Recorder | None) -> tuple[dict[str, Call], str]:
    middle = _LOG // 2
    found: dict[str, Call] = {
        "bare SELECT, binary, msgspec": lambda: (
            bare.cursor(binary=True).execute(_SELECT_PAGE, (middle,), prepare=True).fetchall()
        ),
        "events.read_all": lambda: events.read_all(store, after_position=middle),
    }
    if other is not None:
        found["eventsourcing, msgspec"] = lambda: [
            msgspec.json.decode(event.state) for event in other.inner.select_notifications(middle, 1000)
        ]
    return found, "bare SELECT, binary, msgspec"


def _load(bench: Bench, store: Store, bare: psycopg.Connection) -> None:
    one, two, ours = "1 bare round trip", "2 bare round trips", "events.load"
    calls: dict[str, Call] = {}
    for length in _LENGTHS:
        calls |= {f"{length:,}: {name}": call for name, call in _loads(store, bare, length).items()}
    figures = bench.calls(
        "load an aggregate of so many events, 50 of them after its snapshot",
        calls,
        f"{1_050:,}: {two}",
        rounds=24,
        calls=4,
    )
    assert f"{1_050:,}: {one}" in figures
    name = ours if f"{1_050:,}: {ours}" in figures else "load_snapshot and read"
    reached = figures[f"{1_050:,}: {name}"]["p50_us"] / figures[f"{1_050:,}: {two}"]["p50_us"]
    bench.target(f"{name} of 1,050 events beside 2 round trips", 1.0, reached)
    longest = figures[f"{10_050:,}: {name}"]["p50_us"] / figures[f"{150:,}: {name}"]["p50_us"]
    bench.target(f"{name} of 10,050 events beside one of 150", 1.15, longest)


def _loads(store: Store, bare: psycopg.Connection, length: int) -> dict[str, Call]:
    name = _id(length)
    snapshot = length - _AFTER_SNAPSHOT

    def select_events() -> list[Any]:
        return bare.cursor(binary=True).execute(_SELECT, (name, snapshot), prepare=True).fetchall()

    def select_both() -> list[Any]:
        row = bare.cursor(binary=True).execute(_SELECT_SNAPSHOT, (name,), prepare=True).fetchone()
        assert row is not None
        assert row[0] == snapshot
        return select_events()

    def two_calls() -> Any:
        found = events.load_snapshot(store, "stream", name)
        assert found is not None
        state = found.state
        for event in events.read(store, "stream", name, after_version=found.version):
            state = _fold(state, event)
        return state

    def replay() -> Any:
        state: Any = {"viewers": 0}
        with events.stream(store, "stream", name) as found:
            for event in found:
                state = _fold(state, event)
        return state

    calls: dict[str, Call] = {
        "1 bare round trip": select_events,
        "2 bare round trips": select_both,
        "load_snapshot and read": two_calls,
    }
    load: Any = getattr(events, "load", None)
    if load is not None:
        calls["events.load"] = lambda: load(store, "stream", name, _fold, {"viewers": 0})
    if length < 10_000:  # replaying more takes longer than all others together, and tells no more
        calls["replay of all"] = replay
    return calls


def _fold(state: Any, event: Event) -> Any:
    return {"viewers": state["viewers"] + 1}
