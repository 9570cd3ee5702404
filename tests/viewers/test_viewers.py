"""Viewers one by one and as numbers: what each call counts, answers and leaves in Redis."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
import redis

from rootstream_store.cache import keys
from rootstream_store.errors import Conflict, InvalidInput, NotFound
from rootstream_store.records import ViewerCount
from rootstream_store.repositories import stream_sessions, streams, users, viewers
from rootstream_store.store import Store

from ..cache.conftest import until
from ..factories import make_stream, make_stream_session
from .conftest import totals

MISSING = 987_654
SHORT = 0.05
"""Seconds: a viewer who says nothing for so long is gone."""


def counted(current: int, *, change: bool = True) -> ViewerCount:
    return ViewerCount(current=current, is_change=change, is_counted=True)


def test_join_heartbeat_and_leave_count_each_viewer_once(store: Store, live: int) -> None:
    assert viewers.join(store, live, "ann") == counted(1)
    assert viewers.join(store, live, "ann") == counted(1, change=False)
    assert viewers.join(store, live, "bob") == counted(2)
    assert viewers.heartbeat(store, live, "bob") == counted(2, change=False)
    assert viewers.leave(store, live, "ann") == counted(1)
    assert viewers.leave(store, live, "ann") == counted(1, change=False)
    assert viewers.leave(store, live, "carol") == counted(1, change=False)
    figures = viewers.get(store, live)
    assert (figures.current, figures.peak, figures.unique) == (1, 2, 2)
    assert figures.is_from_redis
    assert figures.session_id == stream_sessions.get_current(store, live).id
    assert figures.as_of is not None
    assert abs((datetime.now(UTC) - figures.as_of).total_seconds()) < 5
    viewers.flush(store)
    assert totals(store, live) == (1, 2, 2, 2)


def test_who_comes_back_is_a_visit_more_and_no_other_viewer(store: Store, live: int) -> None:
    for _ in range(3):
        viewers.join(store, live, "ann")
        viewers.leave(store, live, "ann")
    viewers.flush(store)
    assert totals(store, live) == (0, 1, 3, 1)


def test_a_number_and_its_text_are_one_viewer(store: Store, live: int) -> None:
    viewers.join(store, live, 7)
    assert viewers.join(store, live, "7") == counted(1, change=False)
    assert viewers.leave(store, live, 7) == counted(0)


@pytest.mark.parametrize(
    "viewer", ["nul\0", "two words", "ключ-🎥", "\r\nDEL x\r\n", "x" * 128, 2**63 - 1, -1]
)
def test_any_name_is_kept_whole(store: Store, live: int, viewer: str | int) -> None:
    assert viewers.join(store, live, viewer) == counted(1)
    assert viewers.heartbeat(store, live, viewer) == counted(1, change=False)
    assert viewers.leave(store, live, viewer) == counted(0)


@pytest.mark.parametrize("viewer", ["", "x" * 129, None, True, 1.5, b"x", 2**63, "\ud800"])
def test_what_is_no_viewer_is_refused_and_not_shown(store: Store, live: int, viewer: Any) -> None:
    for call in (viewers.join, viewers.heartbeat, viewers.leave):
        with pytest.raises(InvalidInput, match="viewer_id") as caught:
            call(store, live, viewer)
        assert "xxx" not in str(caught.value)
    assert viewers.get(store, live).current == 0


@pytest.mark.parametrize("expiry", [0, -1, 301, float("nan"), float("inf"), "45", None, True])
def test_what_is_no_expiry_is_refused(store: Store, live: int, expiry: Any) -> None:
    with pytest.raises(InvalidInput, match="expiry"):
        viewers.join(store, live, 1, expiry=expiry)


@pytest.mark.parametrize("count", [-1, 1.0, True, None, 10**12 + 1])
def test_what_is_no_number_of_viewers_is_refused(store: Store, live: int, count: Any) -> None:
    with pytest.raises(InvalidInput, match="count"):
        viewers.set(store, live, count)
    with pytest.raises(InvalidInput, match="source"):
        viewers.set(store, live, 1, source="")


@pytest.mark.parametrize("stream_id", [2**63, True, "1", None, [1]])
def test_what_is_no_stream_is_refused(store: Store, stream_id: Any) -> None:
    calls: list[Callable[[], object]] = [
        lambda: viewers.join(store, stream_id, 1),
        lambda: viewers.heartbeat(store, stream_id, 1),
        lambda: viewers.leave(store, stream_id, 1),
        lambda: viewers.set(store, stream_id, 1),
        lambda: viewers.get(store, stream_id),
    ]
    for call in calls:
        with pytest.raises(InvalidInput, match="stream_id"):
            call()


def test_a_viewer_who_says_nothing_is_gone_and_one_who_says_something_is_not(store: Store, live: int) -> None:
    viewers.join(store, live, "quiet", expiry=SHORT)
    viewers.join(store, live, "there")
    until(lambda: viewers.get(store, live).current == 1, "the quiet one to be given up")
    assert viewers.leave(store, live, "quiet") == counted(1, change=False)
    assert viewers.heartbeat(store, live, "quiet", expiry=SHORT) == counted(2)
    assert viewers.heartbeat(store, live, "quiet") == counted(2, change=False)
    viewers.flush(store)
    # A heartbeat brings back whom Redis has lost: it is no visit more.
    assert totals(store, live) == (2, 2, 2, 2)


@pytest.mark.parametrize("call", ["join", "heartbeat", "leave", "set", "get", "flush", "plain"])
def test_every_call_gives_up_who_is_gone(store: Store, live: int, call: str) -> None:
    viewers.join(store, live, "quiet", expiry=SHORT)
    viewers.set(store, live, 10, source="dead", expiry=SHORT)
    seen = keys.viewer_keys(live)[2]
    until(lambda: float(store.redis.zscore(seen, "quiet") or 0) < now_ms(store), "both to expire")
    until(lambda: last_report(store, live) < now_ms(store), "both to expire")
    if call == "join":
        assert viewers.join(store, live, "new").current == 1
    elif call == "heartbeat":
        assert viewers.heartbeat(store, live, "new").current == 1
    elif call == "leave":
        assert viewers.leave(store, live, "new").current == 0
    elif call == "set":
        assert viewers.set(store, live, 5).current == 5
    elif call == "get":
        assert viewers.get(store, live).current == 0
    else:
        viewers.flush(store)
        assert streams.get(store, live).viewer_count == 0
        assert store.redis.get(keys.viewers(live)) == b"0"


def now_ms(store: Store) -> float:
    seconds, micros = store.redis.time()
    return seconds * 1000 + micros / 1000


def last_report(store: Store, stream_id: int) -> float:
    told: Any = store.redis.hget(keys.viewer_keys(stream_id)[5], "dead")
    return float(told.split(b":")[1]) if told else 0


def test_sources_add_up_beside_those_who_joined(store: Store, live: int) -> None:
    viewers.join(store, live, "ann")
    assert viewers.set(store, live, 100) == counted(101)
    assert viewers.set(store, live, 100) == counted(101, change=False)
    assert viewers.set(store, live, 50, source="edge-fra") == counted(151)
    assert viewers.join(store, live, "bob") == counted(152)
    assert viewers.set(store, live, 10, source="edge-fra") == counted(112)
    assert viewers.set(store, live, 0) == counted(12)
    assert viewers.set(store, live, 0, source="unknown") == counted(12, change=False)
    figures = viewers.get(store, live)
    assert (figures.current, figures.peak, figures.unique) == (12, 152, 2)
    viewers.flush(store)
    # Every viewer of the peak has come at some time, also of those nobody named.
    assert totals(store, live) == (12, 152, 152, 2)


def test_numbers_beyond_32_and_53_bits_of_precision_are_kept(store: Store, live: int) -> None:
    assert viewers.set(store, live, 10**12) == counted(10**12)
    viewers.set(store, live, 10**12 - 1, source="other")
    assert viewers.get(store, live).peak == 2 * 10**12 - 1
    viewers.flush(store)
    assert totals(store, live)[:2] == (2 * 10**12 - 1,) * 2
    assert store.redis.get(keys.viewers(live)) == b"1999999999999"


def test_a_stream_off_air_counts_nobody(store: Store) -> None:
    stream = make_stream(store)
    calls: list[Callable[[int], object]] = [
        lambda stream_id: viewers.join(store, stream_id, 1),
        lambda stream_id: viewers.heartbeat(store, stream_id, 1),
        lambda stream_id: viewers.set(store, stream_id, 5),
    ]
    for _ in range(2):  # the second time Redis knows that there is none
        for call in calls:
            with pytest.raises(Conflict, match="is not live"):
                call(stream.id)
            with pytest.raises(NotFound):
                call(MISSING)
    assert viewers.leave(store, stream.id, 1) == counted(0, change=False)
    assert viewers.leave(store, MISSING, 1) == counted(0, change=False)
    figures = viewers.get(store, stream.id)
    assert (figures.session_id, figures.current, figures.peak, figures.unique) == (None, 0, 0, 0)
    with pytest.raises(NotFound):
        viewers.get(store, MISSING)
    streams.start(store, stream.id)
    assert viewers.join(store, stream.id, 1) == counted(1)


def test_the_next_time_on_air_begins_from_nothing(store: Store, live: int) -> None:
    viewers.join(store, live, "ann")
    viewers.join(store, live, "bob")
    ended = streams.stop(store, live)
    assert (ended.peak_viewers, ended.total_viewers, ended.unique_viewers) == (2, 2, 2)
    with pytest.raises(Conflict):
        viewers.join(store, live, "carol")
    assert viewers.leave(store, live, "ann") == counted(0, change=False)
    streams.start(store, live)
    assert viewers.join(store, live, "ann") == counted(1)
    figures = viewers.get(store, live)
    assert (figures.current, figures.peak, figures.unique) == (1, 1, 1)
    viewers.flush(store)
    assert totals(store, live) == (1, 1, 1, 1)
    assert stream_sessions.get(store, live, ended.id) == ended


def test_a_counter_that_a_stop_left_behind_is_not_taken_for_the_next_session(store: Store, live: int) -> None:
    viewers.join(store, live, "ann")
    left = {key: store.redis.dump(key) for key in keys.viewer_keys(live)[1:4]}
    streams.stop(store, live)
    # As if Redis had been away just then.
    for key, value in left.items():
        store.redis.restore(key, 0, value or b"")
    assert viewers.get(store, live).current == 0
    streams.start(store, live)
    assert viewers.get(store, live).current == 0
    viewers.flush(store)
    assert totals(store, live) == (0, 0, 0, 0)
    assert viewers.join(store, live, "bob") == counted(1)
    viewers.flush(store)
    assert totals(store, live) == (1, 1, 1, 1)


@pytest.mark.parametrize("end", ["stop", "end", "delete", "delete_user"])
def test_the_end_of_a_broadcast_leaves_nothing_in_redis(store: Store, end: str) -> None:
    stream = make_stream(store)
    session = streams.start(store, stream.id)
    viewers.join(store, stream.id, "ann")
    viewers.set(store, stream.id, 5)
    viewers.flush(store)
    assert [found.stream_id for found in viewers.top(store)] == [stream.id]
    assert store.redis.exists(*keys.viewer_keys(stream.id), keys.BY_VIEWERS) == 7
    if end == "stop":
        streams.stop(store, stream.id)
    elif end == "end":
        stream_sessions.end(store, stream.id, session.id)
    elif end == "delete":
        streams.delete(store, stream.id)
    else:
        users.delete(store, stream.user_id)
    assert store.redis.keys("*viewers*") == []
    assert viewers.top(store) == []


def test_what_a_late_stop_removes_is_not_of_the_next_session(store: Store, live: int) -> None:
    viewers.join(store, live, "ann")
    late: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "after_commit", lambda *effects: late.extend(effects))
        streams.stop(store, live)
    streams.start(store, live)
    viewers.join(store, live, "bob")
    store.after_commit(*late)
    assert viewers.get(store, live).current == 1


def test_the_plain_number_is_there_for_old_readers_for_five_minutes(store: Store, live: int) -> None:
    key = keys.viewers(live)
    viewers.join(store, live, 1)
    viewers.join(store, live, 2)
    assert store.redis.get(key) == b"2"
    assert 290 < store.redis.ttl(key) <= 300
    viewers.leave(store, live, 1)
    assert store.redis.get(key) == b"1"
    store.redis.expire(key, 10)
    viewers.flush(store)
    assert 290 < store.redis.ttl(key) <= 300
    assert streams.get_viewer_count(store, live) == 1


def test_no_key_of_viewers_stays_for_ever(store: Store, live: int) -> None:
    viewers.join(store, live, 1)
    viewers.set(store, live, 5)
    viewers.flush(store)
    for key in store.redis.keys("*viewers*"):
        assert 0 < store.redis.ttl(key) <= 600, key


def test_without_redis_nothing_is_counted_and_the_answer_says_so(database_url: str) -> None:
    with Store.open(database_url) as store:
        stream_id = make_stream_session(store).stream_id
        stream_sessions.add_viewers(store, stream_id, joined=3)
        uncounted = ViewerCount(current=3, is_change=False, is_counted=False)
        assert viewers.join(store, stream_id, 1) == uncounted
        assert viewers.heartbeat(store, stream_id, 1) == uncounted
        assert viewers.leave(store, stream_id, 1) == uncounted
        assert viewers.set(store, stream_id, 9) == uncounted
        figures = viewers.get(store, stream_id)
        assert (figures.current, figures.peak, figures.is_from_redis) == (3, 3, False)
        assert [found.viewers for found in viewers.top(store)] == [3]
        report = viewers.flush(store)
        assert (report.streams, report.flushed, report.is_complete) == (1, 0, False)
        streams.stop(store, stream_id)
        with pytest.raises(Conflict):
            viewers.join(store, stream_id, 1)
        with pytest.raises(NotFound):
            viewers.join(store, MISSING, 1)


def test_in_a_transaction_it_works_at_once_and_a_rollback_takes_nothing_back(store: Store, live: int) -> None:
    viewers.join(store, live, "ann")
    with pytest.raises(LookupError), store.transaction() as tx:  # noqa: PT012  # the rollback is the point
        assert viewers.join(tx, live, "bob") == counted(2)
        assert viewers.get(tx, live).current == 2
        raise LookupError
    assert viewers.get(store, live).current == 2


def test_a_stream_that_the_transaction_started_counts_nobody_yet(store: Store) -> None:
    stream = make_stream(store)
    with store.transaction() as tx:
        streams.start(tx, stream.id)
        assert not viewers.join(tx, stream.id, "ann").is_counted
    assert viewers.join(store, stream.id, "ann") == counted(1)


def test_a_stop_that_is_rolled_back_loses_nobody(store: Store, live: int) -> None:
    viewers.join(store, live, "ann")
    with pytest.raises(LookupError), store.transaction() as tx:  # noqa: PT012  # the rollback is the point
        streams.stop(tx, live)
        # It may be committed any moment: whoever is told to be counted must be in the session's figures.
        assert not viewers.join(store, live, "bob").is_counted
        raise LookupError
    assert viewers.join(store, live, "bob").is_counted, "the marker of the stop to be gone"
    with store.transaction() as tx, pytest.raises(LookupError), tx.transaction():  # noqa: PT012  # as above
        streams.stop(tx, live)
        raise LookupError
    assert viewers.join(store, live, "eve").is_counted
    viewers.flush(store)
    assert totals(store, live) == (3, 3, 3, 3)


def test_a_stop_of_a_process_that_has_just_given_redis_up_has_everybody(
    store: Store, open_store: Callable[..., Store], redis_url: str, live: int
) -> None:
    """Another process counts: its breaker is closed."""
    viewers.join(store, live, "ann")
    other = open_store(redis_url=redis_url, redis_timeout=20, redis_retry_after=60)
    other._cache._breaker.enter().failed(redis.ConnectionError("lost"))  # type: ignore[union-attr]  # closed still
    until(lambda: other._cache._breaker.open_for > 0.1, "the failure to be none of this call")
    ended = streams.stop(other, live)
    assert (ended.total_viewers, ended.peak_viewers) == (1, 1)


def test_a_stream_that_psql_deletes_counts_nobody(store: Store, database_url: str, live: int) -> None:
    viewers.join(store, live, "ann")
    with psycopg.connect(database_url) as connection:
        connection.execute("DELETE FROM streams WHERE id = %s", [live])

    def is_refused() -> bool:
        try:
            viewers.join(store, live, "bob")
        except NotFound:
            return True
        return False

    until(is_refused, "the deletion to be seen")


def test_a_stop_in_a_transaction_has_everybody_who_was_counted(store: Store, live: int) -> None:
    viewers.join(store, live, "ann")
    with store.transaction() as tx:
        ended = streams.stop(tx, live)
        answer = viewers.join(store, live, "bob")
        assert (answer.is_counted, answer.current) == (False, 0)
    assert (ended.total_viewers, ended.peak_viewers) == (1, 1)
    assert store.redis.keys("*viewers*") == []


def test_an_answer_of_an_old_session_that_a_restored_redis_brought_back_is_dropped_by_the_flush(
    store: Store, live: int
) -> None:
    viewers.join(store, live, "ann")
    key = keys.on_air(live)
    old = store.redis.dump(key)
    streams.stop(store, live)
    second = streams.start(store, live)
    store.redis.restore(key, 0, old or b"")
    viewers.flush(store)
    assert store.redis.exists(key) == 0
    assert viewers.join(store, live, "bob") == counted(1)
    assert viewers.get(store, live).session_id == second.id
