"""Archived events are read as if nothing had happened: every read answers the same before and after."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from rootstream_store import events
from rootstream_store.errors import NotFound
from rootstream_store.records import Event
from rootstream_store.store import Store

LATER = datetime(2090, 1, 1, tzinfo=UTC)
NAMES = [f"n{number}" for number in range(25)]
TYPES = ["Opened", "Changed", "Ended"]
FILTERS: list[dict[str, Any]] = [
    {},
    {"aggregate_type": "Other"},
    {"event_types": ["Ended"]},
    {"event_types": []},
]


@pytest.fixture
def mixed(store: Store, connection: psycopg.Connection) -> Store:
    """500 events, a second apart, of 25 aggregates of two types by ten users, and positions missing here and
    there. Two thirds of the aggregates are closed; some live long, some are over soon."""
    chosen = random.Random(7)
    versions = dict.fromkeys(NAMES, 0)
    for number in range(500):
        # Later ones begin later: their events are spread over a window that moves through all of them.
        name = NAMES[min(24, max(0, number // 20 + chosen.choice([-4, -2, -1, 0, 0, 1, 4])))]
        versions[name] += 1
        connection.execute(
            "INSERT INTO event_log (aggregate_id, aggregate_type, version, event_type, event_data, user_id, "
            "timestamp) VALUES (%s, %s, %s, %s, %s, %s, %s)",
            [
                name,
                type_of(name),
                versions[name],
                chosen.choice(TYPES),
                f'{{"n": {number}}}',
                chosen.choice([None, *range(10)]),
                datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number),
            ],
        )
        if chosen.random() < 0.1:
            connection.execute("SELECT nextval('event_log_position_seq')")
    for name, version in versions.items():
        connection.execute(
            "INSERT INTO aggregates VALUES (%s, %s, %s, %s)",
            [name, type_of(name), version, chosen.random() < 0.67],
        )
    return store


def type_of(name: str) -> str:
    return "Stream" if int(name[1:]) % 3 else "Other"


def answers(store: Store) -> Iterator[tuple[Any, ...]]:
    """What every read says, for many arguments each."""
    chosen = random.Random(8)
    whole = events.read_all(store)
    yield ("all", whole)
    for size in (1, 7, 100):
        yield ("pages", size, pages(store, size))
    for after, to in itertools.product((0, 3, 200, 450, 9999), (None, 2, 199, 321)):
        for only in FILTERS:
            bounds: dict[str, Any] = {"after_position": after, "to_position": to, **only}
            yield ("read_all", bounds, events.read_all(store, **bounds, limit=50))
            with events.stream_all(store, **bounds, size=13) as found:
                yield ("stream_all", bounds, list(found))
            yield ("backward", bounds, events.read_all(store, **bounds, backward=True, limit=50))
    for seconds in range(-5, 510, 23):
        at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
        yield ("find_position", at, events.find_position(store, at))
        yield ("since", at, events.read_all(store, since=at, limit=30))
    for user in range(11):
        for before in (None, 250, 40):
            trail = events.list_by_user(store, user, before_position=before, limit=17)
            yield ("list_by_user", user, before, trail)
    for partitions in (1, 3):
        yield ("subscription", partitions, delivered(store, partitions))
        yield ("filtered", partitions, delivered(store, partitions, event_types=["Ended"]))
    for name in NAMES:
        kind = type_of(name)
        for backward in (False, True):
            for how in (
                {},
                {"after_version": 5},
                {"to_version": 9},
                {"after_version": 3, "to_version": 12, "event_types": ["Changed", "Opened"]},
                {"since": datetime(2026, 1, 1, 0, 4, tzinfo=UTC)},
            ):
                yield ("read", name, how, events.read(store, kind, name, **how, backward=backward, limit=6))
                with events.stream(store, kind, name, **how, backward=backward, size=4) as found:
                    yield ("stream", name, how, list(found))
        for to_version in (None, 1, 7):
            loaded = events.load(store, kind, name, EVERYTHING, to_version=to_version)
            yield ("load", name, to_version, loaded.state, loaded.version, loaded.position)
        yield ("head", name, events.find_head(store, kind, name), events.get_version(store, kind, name))
        for version in {1, chosen.randint(1, 12), 99}:
            try:
                yield ("get", name, version, events.get(store, kind, name, version))
            except NotFound:
                yield ("get", name, version, None)


# Without snapshots: all events are read.
EVERYTHING: events.Fold[list[Event]] = events.Fold(
    lambda seen, event: [*seen, event], list, schema_version=None
)


def delivered(store: Store, partitions: int, **filters: Any) -> list[Event]:
    """What a new subscription gets, each partition in the order of the log."""
    got: list[Event] = []
    name = f"s{next(_numbers)}"
    subscription = events.Subscription(
        store, name, lambda _, event: got.append(event), partitions=partitions, batch_size=37, **filters
    )
    subscription.catch_up()
    events.delete_subscription(store, name)
    return sorted(got, key=lambda event: event.position)


_numbers = itertools.count()


def pages(store: Store, size: int) -> list[Event]:
    """All events, page by page: a page is full unless it is the last one."""
    seen: list[Event] = []
    while page := events.read_all(store, after_position=seen[-1].position if seen else 0, limit=size):
        seen += page
        if len(page) < size:
            assert events.read_all(store, after_position=seen[-1].position) == []
    return seen


@pytest.mark.parametrize("limit", [4, None])
def test_every_read_answers_as_before(mixed: Store, limit: int | None) -> None:
    before = list(answers(mixed))
    assert len(before) > 400
    assert events.archive(mixed, before=LATER, limit=limit).events > 5
    assert list(answers(mixed)) == before


def test_where_all_is_archived(mixed: Store, connection: psycopg.Connection) -> None:
    before = list(answers(mixed))
    connection.execute("UPDATE aggregates SET is_closed = TRUE")
    assert events.archive(mixed, before=LATER).events == 500
    assert connection.execute("SELECT count(*) FROM event_log").fetchone() == (0,)
    after = [answer for answer in answers(mixed) if answer[0] != "head"]
    assert after == [answer for answer in before if answer[0] != "head"]


def test_the_position_of_a_time_between_segments(store: Store, connection: psycopg.Connection) -> None:
    """Where numbers are missing before a segment, and all that is there is archived."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    for number in range(12):
        connection.execute("SELECT nextval('event_log_position_seq') FROM generate_series(1, 37)")
        connection.execute(
            "INSERT INTO event_log "
            "(aggregate_id, aggregate_type, version, event_type, event_data, timestamp) "
            "SELECT %s, 'Stream', n, 'E', '{}', %s FROM generate_series(1, 3) AS n",
            [f"n{number}", start + timedelta(hours=number)],
        )
        connection.execute("INSERT INTO aggregates VALUES (%s, 'Stream', 3, TRUE)", [f"n{number}"])
    times = [start + timedelta(minutes=30 * number) for number in range(-1, 26)]
    before = [events.find_position(store, at) for at in times]
    assert before[:5] == [0, 0, 40, 40, 80]
    assert events.archive(store, before=LATER, limit=7).events == 21
    assert [events.find_position(store, at) for at in times] == before
    assert events.archive(store, before=LATER).events == 15
    assert [events.find_position(store, at) for at in times] == before


def test_an_aggregate_that_goes_on_after_it_was_archived(mixed: Store) -> None:
    events.archive(mixed, before=LATER)
    for name in NAMES:
        if events.find_head(mixed, type_of(name), name).is_closed:  # type: ignore[union-attr]  # it is there
            break
    version = events.get_version(mixed, type_of(name), name)
    events.reopen(mixed, type_of(name), name)
    for _ in range(3):
        events.append(mixed, type_of(name), name, "Changed", {})
    wanted = list(range(1, version + 4))
    assert [event.version for event in events.read(mixed, type_of(name), name)] == wanted
    newest = events.read(mixed, type_of(name), name, backward=True, limit=5)
    assert [event.version for event in newest] == wanted[:-6:-1]
    events.close(mixed, type_of(name), name)
    assert events.archive(mixed, before=LATER).events == 3
    assert [event.version for event in events.read(mixed, type_of(name), name)] == wanted
    events.save_snapshot(mixed, type_of(name), name, version=2, state={"as": "of an archived event"})
    snapshot = events.load_snapshot(mixed, type_of(name), name)
    assert snapshot is not None
    assert snapshot.position == events.get(mixed, type_of(name), name, 2).position


def test_a_page_of_the_archived_log_unpacks_few_segments(
    store: Store, connection: psycopg.Connection
) -> None:
    """A thousand positions at a time, however long the rest of the log is."""
    connection.execute(
        "INSERT INTO event_log (aggregate_id, aggregate_type, version, event_type, event_data) "
        "SELECT 'n' || i / 10, 'Stream', 1 + i %% 10, 'E', '{}' FROM generate_series(0, 19999) AS i".replace(
            "%%", "%"
        )
    )
    connection.execute(
        "INSERT INTO aggregates SELECT 'n' || i, 'Stream', 10, TRUE FROM generate_series(0, 1999) AS i"
    )
    assert events.archive(store, before=LATER).events == 20_000
    connection.execute("ANALYZE event_segments, event_log")
    with store.transaction() as transaction:
        found = events.read_all(transaction, after_position=8000, limit=100)
        assert [event.position for event in found] == list(range(8001, 8101))
    text = events._read._READ_ALL.text
    for name, value in {
        "after_position": "8000",
        "to_position": "20000",
        "limit": "100",
        "aggregate_type": "NULL",
        "event_types": "NULL",
        "since": "NULL",
    }.items():
        text = text.replace(f"%({name})s", value)
    (plan,) = connection.execute(f"EXPLAIN (ANALYZE, FORMAT json) {text}".encode()).fetchone()  # type: ignore[misc]  # EXPLAIN answers with a row
    unpacked = [node for node in _nodes(plan[0]["Plan"]) if node["Node Type"] == "Function Scan"]
    assert len(unpacked) == 1
    assert unpacked[0]["Actual Loops"] <= 101


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", []):
        yield from _nodes(child)
