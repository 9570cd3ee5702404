"""Stream sessions: their viewers and bytes, their end, and callers at the same time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from rootstream_store.cache import keys
from rootstream_store.errors import Conflict, InvalidInput, NotFound
from rootstream_store.repositories import stream_sessions, streams
from rootstream_store.store import Store

from .factories import make_stream, make_stream_session
from .together import blocked, together

MISSING = 987_654


@pytest.fixture
def sql(database_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


# --- reading


def test_current_session(store: Store) -> None:
    session = make_stream_session(store, is_recorded=True)
    assert stream_sessions.get_current(store, session.stream_id) == session
    assert stream_sessions.find_current(store, session.stream_id) == session
    assert stream_sessions.get(store, session.stream_id, session.id) == session


def test_no_current_session_off_air(store: Store) -> None:
    session = make_stream_session(store)
    streams.stop(store, session.stream_id)
    for stream_id in (session.stream_id, make_stream(store).id, MISSING):
        assert stream_sessions.find_current(store, stream_id) is None
        with pytest.raises(NotFound) as caught:
            stream_sessions.get_current(store, stream_id)
        assert (caught.value.entity, caught.value.key) == ("stream session", {"stream_id": stream_id})


def test_session_of_another_stream_is_not_found(store: Store) -> None:
    session = make_stream_session(store)
    with pytest.raises(NotFound) as caught:
        stream_sessions.get(store, make_stream(store).id, session.id)
    assert caught.value.key["session_id"] == session.id


def test_list_newest_first_page_by_page(store: Store) -> None:
    stream = make_stream(store)
    make_stream_session(store)
    ids = []
    for _ in range(5):
        ids.append(streams.start(store, stream.id).id)
        streams.stop(store, stream.id)
    first = stream_sessions.list_(store, stream.id, limit=2)
    second = stream_sessions.list_(store, stream.id, before_id=first[-1].id, limit=2)
    third = stream_sessions.list_(store, stream.id, before_id=second[-1].id, limit=2)
    assert [session.id for session in first + second + third] == ids[::-1]
    assert stream_sessions.list_(store, stream.id, before_id=ids[0]) == []
    assert stream_sessions.list_(store, MISSING) == []


# --- viewers


def test_joins_and_leaves_add_up(store: Store) -> None:
    stream_id = make_stream_session(store).stream_id
    assert stream_sessions.add_viewers(store, stream_id, joined=150) == 150
    assert stream_sessions.add_viewers(store, stream_id, left=50) == 100
    assert stream_sessions.add_viewers(store, stream_id, joined=20, left=30) == 90
    assert stream_sessions.add_viewers(store, stream_id) == 90
    session = stream_sessions.get_current(store, stream_id)
    assert (session.total_viewers, session.peak_viewers) == (170, 150)
    assert streams.get_viewer_count(store, stream_id) == streams.get(store, stream_id).viewer_count == 90


def test_the_peak_is_never_above_the_total(store: Store) -> None:
    stream_id = make_stream_session(store).stream_id
    streams.update_stats(store, stream_id, viewer_count=10)
    stream_sessions.add_viewers(store, stream_id, joined=5)
    streams.update_stats(store, stream_id, viewer_count=2)
    stream_sessions.add_viewers(store, stream_id, joined=1)
    session = stream_sessions.get_current(store, stream_id)
    assert (session.total_viewers, session.peak_viewers) == (16, 15)


def test_more_cannot_leave_than_watch(store: Store) -> None:
    stream_id = make_stream_session(store).stream_id
    stream_sessions.add_viewers(store, stream_id, joined=3)
    before = stream_sessions.get_current(store, stream_id)
    with pytest.raises(Conflict, match="has 3 viewers, 1 joined: 5 cannot leave") as caught:
        stream_sessions.add_viewers(store, stream_id, joined=1, left=5)
    assert caught.value.query == "sql/stream_sessions/add_viewers.sql"
    assert not caught.value.retryable
    assert stream_sessions.get_current(store, stream_id) == before
    assert stream_sessions.add_viewers(store, stream_id, left=3) == 0


def test_viewers_above_2_31(store: Store) -> None:
    stream_id = make_stream_session(store).stream_id
    assert stream_sessions.add_viewers(store, stream_id, joined=2**31 + 1) == 2**31 + 1
    assert stream_sessions.get_current(store, stream_id).peak_viewers == 2**31 + 1


def test_a_sum_beyond_64_bits_is_refused(store: Store) -> None:
    stream_id = make_stream_session(store).stream_id
    stream_sessions.add_bytes(store, stream_id, 2**63 - 1)
    with pytest.raises(InvalidInput):
        stream_sessions.add_bytes(store, stream_id, 1)
    assert stream_sessions.get_current(store, stream_id).total_bytes_sent == 2**63 - 1


@pytest.mark.parametrize("count", [-1, 1.0, "1", None, True, 2**63])
def test_counts_are_checked(store: Store, count: Any) -> None:
    stream_id = make_stream_session(store).stream_id
    calls: dict[str, Callable[[], object]] = {
        "joined": lambda: stream_sessions.add_viewers(store, stream_id, joined=count),
        "left": lambda: stream_sessions.add_viewers(store, stream_id, left=count),
        "count": lambda: stream_sessions.add_bytes(store, stream_id, count),
    }
    for field, call in calls.items():
        with pytest.raises(InvalidInput) as caught:
            call()
        assert caught.value.field == field


def test_counting_off_air_is_refused_and_an_ended_session_stays_as_it_was(store: Store) -> None:
    # The former C++ layer overwrote bytes and viewers of an ended session with zeros.
    session = make_stream_session(store)
    stream_sessions.add_viewers(store, session.stream_id, joined=9)
    stream_sessions.add_bytes(store, session.stream_id, 9000)
    ended = streams.stop(store, session.stream_id)
    calls: list[Callable[[], object]] = [
        lambda: stream_sessions.add_viewers(store, session.stream_id, joined=1),
        lambda: stream_sessions.add_viewers(store, session.stream_id, left=1),
        lambda: stream_sessions.add_bytes(store, session.stream_id, 1),
        lambda: streams.update_stats(store, session.stream_id, viewer_count=0, bytes_sent=1),
    ]
    for call in calls:
        with pytest.raises(Conflict, match="is not live"):
            call()
    assert stream_sessions.get(store, session.stream_id, session.id) == ended
    assert (ended.total_viewers, ended.total_bytes_sent) == (9, 9000)


def test_counting_for_a_missing_stream(store: Store) -> None:
    calls: list[Callable[[], object]] = [
        lambda: stream_sessions.add_viewers(store, MISSING, joined=1),
        lambda: stream_sessions.add_viewers(store, MISSING, left=1),
        lambda: stream_sessions.add_bytes(store, MISSING, 1),
    ]
    for call in calls:
        with pytest.raises(NotFound) as caught:
            call()
        assert (caught.value.entity, caught.value.key) == ("stream", {"stream_id": MISSING})


# --- end


def test_end_takes_the_stream_off_air(store: Store) -> None:
    session = make_stream_session(store)
    with store.subscribe(keys.events(session.stream_id)) as messages:
        ended = stream_sessions.end(store, session.stream_id, session.id)
        assert messages.get(timeout=5) == (keys.events(session.stream_id), b"ended")
    assert ended.session_end is not None
    assert not streams.get(store, session.stream_id).is_live
    assert not streams.is_live(store, session.stream_id)


def test_ending_a_session_twice_is_a_conflict_and_leaves_a_later_one(store: Store) -> None:
    first = make_stream_session(store)
    ended = stream_sessions.end(store, first.stream_id, first.id)
    second = streams.start(store, first.stream_id)
    with pytest.raises(Conflict, match="has ended already") as caught:
        stream_sessions.end(store, first.stream_id, first.id)
    assert caught.value.query == "sql/streams/stop.sql"
    assert stream_sessions.get(store, first.stream_id, first.id) == ended
    assert stream_sessions.get_current(store, first.stream_id) == second
    assert streams.is_live(store, first.stream_id)


def test_end_of_a_missing_session(store: Store) -> None:
    session = make_stream_session(store)
    for stream_id, session_id in ((session.stream_id, MISSING), (MISSING, session.id)):
        with pytest.raises(NotFound) as caught:
            stream_sessions.end(store, stream_id, session_id)
        assert caught.value.key == {"stream_id": stream_id, "session_id": session_id}
    assert streams.get(store, session.stream_id).is_live


def test_a_stop_right_after_the_end_is_refused(store: Store) -> None:
    session = make_stream_session(store)
    outcomes = together(
        [
            lambda: streams.stop(store, session.stream_id),
            lambda: stream_sessions.end(store, session.stream_id, session.id),
        ]
        * 4
    )
    assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 7


# --- callers at the same time


def test_eight_threads_count_exactly(store: Store, sql: psycopg.Connection) -> None:
    stream_id = make_stream_session(store).stream_id
    stream_sessions.add_viewers(store, stream_id, joined=1)

    def work() -> int:
        for _ in range(40):
            stream_sessions.add_viewers(store, stream_id, joined=3)
            stream_sessions.add_bytes(store, stream_id, 7)
            stream_sessions.add_viewers(store, stream_id, left=2)
            streams.update_stats(store, stream_id, bytes_sent=1000)
        return 40

    assert together([work] * 8) == [40] * 8
    session = stream_sessions.get_current(store, stream_id)
    assert streams.get_viewer_count(store, stream_id) == 1 + 8 * 40
    assert session.total_viewers == 1 + 8 * 40 * 3
    assert session.total_bytes_sent == 8 * 40 * 1007
    assert 1 + 8 * 40 <= session.peak_viewers <= 1 + 8 * 40 + 8 * 3


def test_a_join_that_waits_for_a_larger_one(store: Store, sql: psycopg.Connection) -> None:
    # It sees the other's viewers in the count but, at first, not in the total: a peak above it, for a moment.
    stream_id = make_stream_session(store).stream_id
    with ThreadPoolExecutor(1) as threads:
        with store.transaction() as transaction:
            stream_sessions.add_viewers(transaction, stream_id, joined=50)
            waiting = threads.submit(stream_sessions.add_viewers, store, stream_id, joined=1)
            blocked(sql)
        assert waiting.result(10) == 51
    session = stream_sessions.get_current(store, stream_id)
    assert (session.total_viewers, session.peak_viewers) == (51, 51)


def test_a_join_that_waits_for_the_stop(store: Store, sql: psycopg.Connection) -> None:
    stream_id = make_stream_session(store).stream_id
    with ThreadPoolExecutor(1) as threads:
        with store.transaction() as transaction:
            ended = streams.stop(transaction, stream_id)
            waiting = threads.submit(stream_sessions.add_viewers, store, stream_id, joined=1)
            blocked(sql)
        with pytest.raises(Conflict):
            waiting.result(10)
    assert stream_sessions.get(store, stream_id, ended.id) == ended
    assert store.redis.exists(keys.viewers(stream_id)) == 0
    assert streams.get_viewer_count(store, stream_id) == 0


@pytest.mark.parametrize("session_id", [None, True, 1.0, "1"])
def test_end_of_no_session_leaves_the_one_on_air(store: Store, session_id: Any) -> None:
    # None once ended whichever was on air.
    session = make_stream_session(store)
    with pytest.raises(InvalidInput, match="session_id: must be an integer"):
        stream_sessions.end(store, session.stream_id, session_id)
    assert stream_sessions.get_current(store, session.stream_id) == session


def test_counts_of_a_rolled_back_transaction_do_not_stay(store: Store) -> None:
    session = make_stream_session(store)

    def work() -> None:
        with store.transaction() as transaction:
            stream_sessions.add_viewers(transaction, session.stream_id, joined=5)
            stream_sessions.add_bytes(transaction, session.stream_id, 5)
            stream_sessions.end(transaction, session.stream_id, session.id)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert stream_sessions.get_current(store, session.stream_id) == session
    assert streams.get(store, session.stream_id).is_live
    assert store.redis.exists(keys.viewers(session.stream_id)) == 0
