"""Tombstones: a closed aggregate accepts no event, however it is appended, until it is opened again."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from rootstream_store import events
from rootstream_store.db import Db
from rootstream_store.errors import Conflict, InvalidInput, NotFound, VersionConflict
from rootstream_store.events import ANY, EXISTS, NO_STREAM, NewEvent
from rootstream_store.records import AggregateHead
from rootstream_store.store import Store

from ..together import together


def append(db: Db, **over: Any) -> int:
    return events.append(db, "Stream", "a", "E", {}, **over).version


@pytest.mark.parametrize("expected", [ANY, EXISTS, 1])
def test_a_closed_aggregate_accepts_nothing(store: Store, expected: Any) -> None:
    append(store)
    head = AggregateHead(aggregate_id="a", aggregate_type="Stream", version=1, is_closed=True)
    assert events.close(store, "Stream", "a", expected=expected) == head
    assert events.close(store, "Stream", "a", expected=expected) == head, "closing it again"
    assert events.find_head(store, "Stream", "a") == head
    for mode in (ANY, NO_STREAM, EXISTS, 0, 1, 2):
        for attempt in (
            lambda mode=mode: append(store, expected=mode),
            lambda mode=mode: events.append_many(
                store, "Stream", "a", [NewEvent("E", {})] * 2, expected=mode
            ),
        ):
            with pytest.raises(Conflict, match="closed"):
                attempt()
    assert len(events.read(store, "Stream", "a")) == 1
    assert events.load(store, "Stream", "a", lambda total, _: total + 1, 0).state == 1
    assert not events.reopen(store, "Stream", "a").is_closed
    assert not events.reopen(store, "Stream", "a").is_closed
    assert append(store, expected=1) == 2


def test_only_the_one_that_is_named(store: Store) -> None:
    append(store)
    events.append(store, "Stream", "b", "E", {})
    events.append(store, "Other", "a", "E", {})
    events.close(store, "Stream", "a")
    assert events.append(store, "Stream", "b", "E", {}).version == 2
    assert events.append(store, "Other", "a", "E", {}).version == 2


def test_an_aggregate_without_events_is_not_found(store: Store) -> None:
    for change in (events.close, events.reopen):
        with pytest.raises(NotFound) as caught:
            change(store, "Stream", "a")
        assert caught.value.key == {"aggregate_id": "a", "aggregate_type": "Stream"}


def test_another_version_is_a_conflict(store: Store) -> None:
    append(store)
    append(store)
    for expected in (1, 3):
        with pytest.raises(VersionConflict) as caught:
            events.close(store, "Stream", "a", expected=expected)
        assert (caught.value.expected, caught.value.actual) == (expected, 2)
    assert append(store) == 3
    for wrong in (0, -1, NO_STREAM, True, "1", None):
        with pytest.raises(InvalidInput, match="expected"):
            events.close(store, "Stream", "a", expected=wrong)  # type: ignore[arg-type]  # on purpose


def test_rollback_opens_it_again(store: Store) -> None:
    append(store)
    with contextlib.suppress(KeyError), store.transaction() as transaction:
        events.close(transaction, "Stream", "a")
        with pytest.raises(Conflict):
            append(transaction)
        raise KeyError
    assert append(store) == 2


def test_of_writers_at_once_none_comes_after_the_end(store: Store) -> None:
    append(store)
    answers = together(
        [lambda: append(store)] * 4
        + [lambda: events.close(store, "Stream", "a").version]
        + [lambda: append(store)] * 3
    )
    closed_at = answers[4]
    assert isinstance(closed_at, int)
    appended = [answer for answer in answers[:4] + answers[5:] if isinstance(answer, int)]
    assert sorted(appended) == list(range(2, closed_at + 1))
    head = events.find_head(store, "Stream", "a")
    assert head is not None
    assert (head.version, head.is_closed) == (closed_at, True)
