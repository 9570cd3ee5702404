"""Bulk import by COPY."""

from __future__ import annotations

import contextlib
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from rootstream_store import events
from rootstream_store.errors import AlreadyExists, Conflict, InvalidInput
from rootstream_store.events import AggregateEvents, NewEvent, PastEvent
from rootstream_store.store import Store

LONG_AGO = datetime(2019, 5, 6, 7, 8, 9, 123456, UTC)


def test_every_field_arrives(store: Store) -> None:
    events.append(store, "Stream", "a", "E", {})
    event_id = uuid.uuid4()
    given = [
        PastEvent("Started", {"text": '"\\ é', "n": 1.5}, {"m": 1}, 7, event_id, timestamp=LONG_AGO),
        PastEvent("Stopped", b"[1, 2]", correlation_id="c", timestamp=LONG_AGO + timedelta(seconds=1)),
        NewEvent("Now", {}),
    ]
    count = events.import_events(
        store,
        [
            AggregateEvents("Stream", "a", given),
            AggregateEvents("User", 8, [NewEvent("Made", {})]),
            AggregateEvents("User", 9, []),
        ],
    )
    assert count == 4
    first, second, third = events.read(store, "Stream", "a", after_version=1)
    assert (first.event_type, first.event_data, first.metadata) == (
        "Started",
        {"text": '"\\ é', "n": 1.5},
        {"m": 1},
    )
    assert (first.user_id, first.event_id, first.timestamp) == (7, event_id, LONG_AGO)
    assert (second.event_data, second.metadata, second.user_id) == ([1, 2], {"correlation_id": "c"}, None)
    assert third.timestamp > LONG_AGO + timedelta(days=1)
    assert [event.version for event in (first, second, third)] == [2, 3, 4]
    assert events.get_version(store, "Stream", "a") == 4
    assert events.get_version(store, "User", 8) == 1
    assert events.find_head(store, "User", 9) is None
    assert [event.event_type for event in events.read_all(store)] == [
        "E",
        "Started",
        "Stopped",
        "Now",
        "Made",
    ]
    assert events.append(store, "Stream", "a", "E", {}, expected=4).version == 5


def test_many_events_of_many_aggregates(store: Store) -> None:
    count = events.import_events(
        store, [AggregateEvents("Stream", n, [NewEvent("E", {"n": n})] * 100) for n in range(150)]
    )
    assert count == 15_000
    with events.stream_all(store) as found:
        seen = [(event.aggregate_id, event.version) for event in found]
    assert seen == [(str(n), version) for n in range(150) for version in range(1, 101)]


@pytest.mark.parametrize(
    ("aggregates", "field"),
    [
        ([5], "aggregates[0]"),
        ([AggregateEvents("", "a", [])], "aggregates[0].aggregate_type"),
        ([AggregateEvents("S", "a", [], expected=1)], "aggregates[0].expected"),
        ([AggregateEvents("S", 1, [NewEvent("E", {})]), AggregateEvents("S", "1", [])], "aggregates[1]"),
        ([AggregateEvents("S", 1, [NewEvent("E", {}), NewEvent("E", "x")])], "aggregates[0].events[1].data"),
        ([AggregateEvents("S", 1, [NewEvent("", {})])], "aggregates[0].events[0].event_type"),
        ([AggregateEvents("S", 1, [NewEvent("E", {}, user_id=2**63)])], "aggregates[0].events[0].user_id"),
        (
            [
                AggregateEvents("S", 2, []),
                AggregateEvents("S", 1, [PastEvent("E", {}, timestamp=datetime(2020, 1, 1))]),
            ],
            "aggregates[1].events[0].timestamp",
        ),
        ([AggregateEvents("S", 1, ["no event"])], "aggregates[0].events[0]"),  # type: ignore[list-item]  # what the test is about
    ],
)
def test_input_that_is_refused_leaves_nothing(store: Store, aggregates: Any, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        events.import_events(store, aggregates)
    assert caught.value.field == field
    assert events.read_all(store) == []
    assert events.find_head(store, "S", 1) is None


def test_what_is_known_or_closed_refuses_all(store: Store, connection: psycopg.Connection) -> None:
    event_id = uuid.uuid4()
    events.append(store, "Stream", "a", "E", {}, event_id=event_id)
    again = AggregateEvents("Stream", "a", [NewEvent("E", {}, event_id=event_id)])
    with pytest.raises(AlreadyExists):
        events.import_events(store, [AggregateEvents("Stream", "b", [NewEvent("E", {})]), again])
    connection.execute("UPDATE aggregates SET is_closed = TRUE")
    with pytest.raises(Conflict, match="closed"):
        events.import_events(store, [AggregateEvents("Stream", "a", [NewEvent("E", {})])])
    assert len(events.read_all(store)) == 1


def test_it_joins_a_transaction(store: Store) -> None:
    with contextlib.suppress(ZeroDivisionError), store.transaction() as tx:
        events.import_events(tx, [AggregateEvents("Stream", "a", [NewEvent("E", {})])])
        assert events.get_version(tx, "Stream", "a") == 1
        raise ZeroDivisionError
    assert events.get_version(store, "Stream", "a") == 0
