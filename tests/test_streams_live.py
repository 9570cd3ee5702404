"""Streams on air: start, stop and stats, what Redis hears of them, and callers at the same time."""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from rootstream_store.cache import keys
from rootstream_store.errors import Conflict, InvalidInput, NotFound, RootStreamError
from rootstream_store.records import StreamSession
from rootstream_store.repositories import stream_sessions, streams
from rootstream_store.store import Store

from .factories import make_stream
from .together import blocked, together

MISSING = 987_654


@pytest.fixture
def sql(database_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


def usage_of(sql: psycopg.Connection, stream_id: int) -> list[tuple[Any, ...]]:
    return sql.execute(
        "SELECT user_id, event_type, bytes_transferred, duration_seconds FROM usage_logs"
        " WHERE stream_id = %s ORDER BY id",
        (stream_id,),
    ).fetchall()


def check_consistent(store: Store, sql: psycopg.Connection, stream_id: int) -> list[StreamSession]:
    """The stream, its sessions, its usage and its key in Redis agree; the sessions, newest first."""
    stream = streams.get(store, stream_id)
    sessions = stream_sessions.list_(store, stream_id, limit=1000)
    open_sessions = [session for session in sessions if session.session_end is None]
    assert len(open_sessions) == stream.is_live
    assert streams.is_live(store, stream_id) == stream.is_live
    if sessions:
        newest = sessions[0]
        assert stream.started_at == newest.session_start
        assert stream.ended_at == newest.session_end
    if not stream.is_live:
        assert stream.viewer_count == 0
    ended = [session for session in sessions if session.session_end is not None]
    usage = usage_of(sql, stream_id)
    assert Counter(row[1] for row in usage) == Counter(
        {"stream_start": len(sessions), "stream_end": len(ended)}
    )
    assert sum(row[2] for row in usage) == sum(session.total_bytes_sent for session in ended)
    for session in ended:
        assert session.session_end is not None
        assert session.duration_seconds == int((session.session_end - session.session_start).total_seconds())
    return sessions


# --- start


def test_start_opens_a_session_and_logs_it(store: Store, sql: psycopg.Connection) -> None:
    stream = make_stream(store)
    session = streams.start(
        store,
        stream.id,
        bitrate_kbps=6000,
        resolution="1920x1080",
        fps=59.94,
        codec="h264",
        is_recorded=True,
        recording_path="/recordings/1.mkv",
    )
    assert (session.stream_id, session.session_end, session.duration_seconds) == (stream.id, None, None)
    assert (session.total_viewers, session.peak_viewers, session.total_bytes_sent) == (0, 0, 0)
    assert (session.is_recorded, session.recording_path) == (True, "/recordings/1.mkv")
    assert stream_sessions.get_current(store, stream.id) == session
    live = streams.get(store, stream.id)
    assert (live.is_live, live.viewer_count, live.started_at) == (True, 0, session.session_start)
    assert (live.bitrate_kbps, live.resolution, live.fps, live.codec) == (6000, "1920x1080", 59.94, "h264")
    assert usage_of(sql, stream.id) == [(stream.user_id, "stream_start", 0, 0)]
    check_consistent(store, sql, stream.id)


def test_start_again_clears_what_the_last_broadcast_left(store: Store, sql: psycopg.Connection) -> None:
    stream = make_stream(store)
    first = streams.start(store, stream.id, bitrate_kbps=1, resolution="1x1", fps=1, codec="av1")
    stream_sessions.add_viewers(store, stream.id, joined=3)
    streams.stop(store, stream.id)
    second = streams.start(store, stream.id)
    live = streams.get(store, stream.id)
    assert second.id != first.id
    assert (live.bitrate_kbps, live.resolution, live.fps, live.codec) == (None, None, None, None)
    assert (live.viewer_count, live.ended_at) == (0, None)
    check_consistent(store, sql, stream.id)


def test_start_resets_viewers_that_were_left_behind(store: Store, sql: psycopg.Connection) -> None:
    stream = make_stream(store)
    sql.execute("UPDATE streams SET viewer_count = 5")
    streams.start(store, stream.id)
    assert streams.get_viewer_count(store, stream.id) == 0


def test_start_while_live_is_a_conflict(store: Store, sql: psycopg.Connection) -> None:
    stream = make_stream(store)
    session = streams.start(store, stream.id, codec="h264")
    with pytest.raises(Conflict, match="already live") as caught:
        streams.start(store, stream.id, codec="av1")
    assert caught.value.query == "sql/streams/start.sql"
    assert not caught.value.retryable
    assert streams.get(store, stream.id).codec == "h264"
    assert check_consistent(store, sql, stream.id) == [session]


@pytest.mark.parametrize(
    ("field", "value", "constraint"),
    [
        ("bitrate_kbps", -1, "streams_bitrate_kbps_range"),
        ("resolution", "wide", "streams_resolution_format"),
        ("resolution", "0x720", "streams_resolution_format"),
        ("fps", 0, "streams_fps_range"),
        ("fps", 1001.0, "streams_fps_range"),
        ("fps", float("nan"), None),
        ("codec", "", "streams_codec_length"),
        ("recording_path", "", "stream_sessions_recording_path_length"),
        ("is_recorded", None, None),
    ],
)
def test_start_with_bad_values_changes_nothing(
    store: Store, sql: psycopg.Connection, field: str, value: object, constraint: str | None
) -> None:
    stream = make_stream(store)
    given: dict[str, Any] = {field: value}
    with pytest.raises(InvalidInput) as caught:
        streams.start(store, stream.id, **given)
    assert (caught.value.field, caught.value.constraint) == (field, constraint)
    assert check_consistent(store, sql, stream.id) == []


# --- stop


def test_stop_closes_the_session_and_logs_bytes_and_seconds(store: Store, sql: psycopg.Connection) -> None:
    stream = make_stream(store)
    begun = streams.start(store, stream.id, bitrate_kbps=2**31 + 5)
    stream_sessions.add_viewers(store, stream.id, joined=7, left=2)
    stream_sessions.add_bytes(store, stream.id, 2**40)
    # Ninety minutes pass.
    sql.execute("UPDATE stream_sessions SET session_start = session_start - interval '90 minutes'")
    sql.execute("UPDATE streams SET started_at = started_at - interval '90 minutes'")
    ended = streams.stop(store, stream.id)
    assert ended.id == begun.id
    assert ended.session_end is not None
    assert ended.duration_seconds in (5400, 5401)
    assert (ended.total_viewers, ended.peak_viewers, ended.total_bytes_sent) == (7, 5, 2**40)
    assert stream_sessions.get(store, stream.id, begun.id) == ended
    off = streams.get(store, stream.id)
    assert (off.is_live, off.viewer_count, off.ended_at) == (False, 0, ended.session_end)
    assert off.bitrate_kbps == 2**31 + 5
    assert usage_of(sql, stream.id)[1] == (stream.user_id, "stream_end", 2**40, ended.duration_seconds)
    check_consistent(store, sql, stream.id)


def test_stop_when_never_started_or_stopped_is_a_conflict(store: Store, sql: psycopg.Connection) -> None:
    stream = make_stream(store)
    with pytest.raises(Conflict, match="is not live") as caught:
        streams.stop(store, stream.id)
    assert caught.value.query == "sql/streams/stop.sql"
    streams.start(store, stream.id)
    ended = streams.stop(store, stream.id)
    with pytest.raises(Conflict):
        streams.stop(store, stream.id)
    assert check_consistent(store, sql, stream.id) == [ended]


def test_a_clock_turned_back_gives_no_negative_duration(store: Store, sql: psycopg.Connection) -> None:
    stream = make_stream(store)
    streams.start(store, stream.id)
    sql.execute("UPDATE stream_sessions SET session_start = session_start + interval '1 hour'")
    sql.execute("UPDATE streams SET started_at = started_at + interval '1 hour'")
    ended = streams.stop(store, stream.id)
    assert (ended.duration_seconds, ended.session_end) == (0, ended.session_start)
    check_consistent(store, sql, stream.id)


# --- a row that is gone


def test_start_stop_and_stats_of_a_missing_stream(store: Store) -> None:
    calls: list[Callable[[Store, int], object]] = [streams.start, streams.stop, streams.update_stats]
    for call in calls:
        with pytest.raises(NotFound) as caught:
            call(store, MISSING)
        assert (caught.value.entity, caught.value.key) == ("stream", {"stream_id": MISSING})
    # The former C++ layer reported success, and Redis then said live.
    assert store.redis.keys("*") == []


# --- stats


def test_stats_are_stored_and_raise_the_peak(store: Store) -> None:
    stream = make_stream(store)
    streams.start(store, stream.id, bitrate_kbps=1000, codec="h264")
    told = streams.update_stats(store, stream.id, viewer_count=150, bitrate_kbps=6000, fps=30, bytes_sent=10)
    assert (told.viewer_count, told.bitrate_kbps, told.fps, told.codec) == (150, 6000, 30.0, "h264")
    assert told == streams.get(store, stream.id)
    assert streams.get_viewer_count(store, stream.id) == 150
    streams.update_stats(store, stream.id, viewer_count=90, codec=None, resolution="1280x720", bytes_sent=5)
    session = stream_sessions.get_current(store, stream.id)
    assert (session.peak_viewers, session.total_viewers, session.total_bytes_sent) == (150, 150, 15)
    now = streams.get(store, stream.id)
    assert (now.viewer_count, now.codec, now.resolution, now.bitrate_kbps) == (90, None, "1280x720", 6000)
    assert streams.update_stats(store, stream.id) == now


def test_viewers_that_are_told_to_postgresql_leave_nothing_in_redis(store: Store) -> None:
    stream = make_stream(store)
    streams.start(store, stream.id)
    streams.update_stats(store, stream.id, viewer_count=150)
    assert stream_sessions.add_viewers(store, stream.id, joined=2, left=1) == 151
    assert streams.get_viewer_count(store, stream.id) == 151
    assert store.redis.exists(keys.viewers(stream.id)) == 0
    streams.stop(store, stream.id)
    assert streams.get_viewer_count(store, stream.id) == 0


@pytest.mark.parametrize("stream_id", [0, -1, 2**62, -(2**63)])
def test_a_number_of_no_stream_is_not_found_by_any_function(store: Store, stream_id: int) -> None:
    for call in (
        streams.get,
        streams.start,
        streams.stop,
        streams.is_live,
        streams.get_viewer_count,
        streams.update_stats,
        streams.delete,
        stream_sessions.add_viewers,
    ):
        with pytest.raises(NotFound):
            call(store, stream_id)
    with pytest.raises(NotFound):
        stream_sessions.end(store, stream_id, 1)


@pytest.mark.parametrize(
    "stream_id", [2**63, -(2**63) - 1, pytest.param(10**5000, id="huge"), True, "1", None]
)
def test_what_cannot_be_an_id_is_refused_by_every_function(store: Store, stream_id: Any) -> None:
    for call in (streams.get, streams.start, streams.stop, streams.is_live, streams.get_viewer_count):
        with pytest.raises(InvalidInput, match="stream_id"):
            call(store, stream_id)


def test_stats_off_air_are_a_conflict(store: Store) -> None:
    stream = make_stream(store)
    streams.start(store, stream.id)
    ended = streams.stop(store, stream.id)
    with pytest.raises(Conflict, match="is not live") as caught:
        streams.update_stats(store, stream.id, viewer_count=5, bytes_sent=5)
    assert caught.value.query == "sql/streams/update_stats.sql"
    assert stream_sessions.get(store, stream.id, ended.id) == ended
    assert streams.get_viewer_count(store, stream.id) == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("viewer_count", -1),
        ("viewer_count", None),
        ("viewer_count", 2**63),
        ("viewer_count", True),
        ("bitrate_kbps", -1),
        ("resolution", "1920 x 1080"),
        ("fps", float("inf")),
        ("codec", "x" * 65),
        ("bytes_sent", -1),
        ("bytes_sent", 1.5),
        ("bytes_sent", None),
    ],
)
def test_bad_stats_change_nothing(store: Store, field: str, value: object) -> None:
    stream = make_stream(store)
    streams.start(store, stream.id)
    streams.update_stats(store, stream.id, viewer_count=3, bytes_sent=100)
    before = streams.get(store, stream.id), stream_sessions.get_current(store, stream.id)
    given: dict[str, Any] = {field: value}
    with pytest.raises(InvalidInput) as caught:
        streams.update_stats(store, stream.id, **given)
    assert caught.value.field == field
    assert (streams.get(store, stream.id), stream_sessions.get_current(store, stream.id)) == before


# --- Redis


def test_is_live_comes_from_redis_and_start_and_stop_renew_it(store: Store, sql: psycopg.Connection) -> None:
    stream = make_stream(store)
    key = keys.live(stream.id)
    assert streams.is_live(store, stream.id) is False
    streams.start(store, stream.id)
    store.sweep_invalidations()  # now, and not between the next two lines
    assert streams.is_live(store, stream.id) is True
    assert 3200 < store.redis.ttl(key) <= 3960
    # Changed behind the library's back: the cached answer stands.
    sql.execute("UPDATE streams SET is_live = FALSE")
    assert streams.is_live(store, stream.id) is True
    sql.execute("UPDATE streams SET is_live = TRUE")
    streams.stop(store, stream.id)
    assert store.redis.exists(key) == 0
    assert streams.is_live(store, stream.id) is False


def test_started_and_ended_are_published(store: Store) -> None:
    stream = make_stream(store)
    with store.subscribe(keys.events(stream.id)) as messages:
        streams.start(store, stream.id)
        assert messages.get(timeout=5) == (keys.events(stream.id), b"started")
        session = stream_sessions.get_current(store, stream.id)
        streams.stop(store, stream.id)
        assert messages.get(timeout=5) == (keys.events(stream.id), b"ended")
        with contextlib.suppress(Conflict):
            stream_sessions.end(store, stream.id, session.id)
        # A refused call publishes nothing: the next message is the next start's.
        streams.start(store, stream.id)
        assert messages.get(timeout=5) == (keys.events(stream.id), b"started")


def test_a_rolled_back_start_is_not_told(store: Store, sql: psycopg.Connection) -> None:
    stream = make_stream(store)

    def work() -> None:
        with store.transaction() as transaction:
            streams.start(transaction, stream.id)
            streams.update_stats(transaction, stream.id, viewer_count=5)
            assert streams.is_live(transaction, stream.id)
            raise ZeroDivisionError

    with store.subscribe(keys.events(stream.id)) as messages:
        with pytest.raises(ZeroDivisionError):
            work()
        store.redis.publish(keys.events(stream.id), b"nothing before this")
        assert messages.get(timeout=5) == (keys.events(stream.id), b"nothing before this")
    assert store.redis.exists(keys.viewers(stream.id)) == 0
    assert streams.is_live(store, stream.id) is False
    assert check_consistent(store, sql, stream.id) == []


def test_start_and_stop_within_one_transaction(store: Store, sql: psycopg.Connection) -> None:
    stream = make_stream(store)
    with (
        store.subscribe(keys.events(stream.id)) as messages,
        store.transaction() as transaction,
    ):
        streams.start(transaction, stream.id)
        stream_sessions.add_viewers(transaction, stream.id, joined=2)
        assert stream_sessions.add_bytes(transaction, stream.id, 9) == 9
        with pytest.raises(Conflict):
            streams.start(transaction, stream.id)
        # Refused, and yet the transaction goes on: a conflict is no failed statement.
        ended = streams.stop(transaction, stream.id)
        store.redis.publish(keys.events(stream.id), b"still open")
        assert messages.get(timeout=5) == (keys.events(stream.id), b"still open")
    assert (ended.total_viewers, ended.total_bytes_sent) == (2, 9)
    assert check_consistent(store, sql, stream.id) == [ended]


def test_without_redis_everything_is_answered(database_url: str) -> None:
    with Store.open(database_url, "redis://127.0.0.1:1/0") as store:
        stream = make_stream(store)
        streams.start(store, stream.id)
        assert streams.is_live(store, stream.id)
        streams.update_stats(store, stream.id, viewer_count=4)
        assert streams.get_viewer_count(store, stream.id) == 4
        streams.stop(store, stream.id)
        assert not streams.is_live(store, stream.id)


# --- callers at the same time


@pytest.mark.parametrize("call", [streams.start, streams.stop])
def test_of_callers_at_the_same_time_one_wins(
    store: Store, sql: psycopg.Connection, call: Callable[[Store, int], StreamSession]
) -> None:
    for _ in range(10):
        stream = make_stream(store)
        if call is streams.stop:
            streams.start(store, stream.id)
        outcomes = together([lambda s=stream.id: call(store, s)] * 8)  # type: ignore[misc]  # mypy cannot infer a lambda's default
        losers = [outcome for outcome in outcomes if isinstance(outcome, RootStreamError)]
        assert len(losers) == 7
        assert all(type(loser) is Conflict and not loser.retryable for loser in losers), losers
        check_consistent(store, sql, stream.id)


def test_a_storm_of_all_calls_leaves_one_story(store: Store, sql: psycopg.Connection) -> None:
    stream = make_stream(store)
    calls: dict[str, Callable[[], object]] = {
        "start": lambda: streams.start(store, stream.id),
        "stop": lambda: streams.stop(store, stream.id),
        "stop ": lambda: streams.stop(store, stream.id),
        "start ": lambda: streams.start(store, stream.id),
        "join": lambda: stream_sessions.add_viewers(store, stream.id, joined=2),
        "leave": lambda: stream_sessions.add_viewers(store, stream.id, left=1),
        "bytes": lambda: stream_sessions.add_bytes(store, stream.id, 1),
        "stats": lambda: streams.update_stats(store, stream.id, bytes_sent=1000),
        "update": lambda: streams.update(store, stream.id, description="x"),
        "rotate": lambda: streams.rotate_key(store, stream.id),
        "is live": lambda: streams.is_live(store, stream.id),
    }
    done: Counter[str] = Counter()

    def work(seed: int) -> Counter[str]:
        dice = random.Random(seed)
        mine: Counter[str] = Counter()
        for _ in range(60):
            name = dice.choice(list(calls))
            try:
                calls[name]()
            except Conflict as error:
                if error.retryable:  # a deadlock
                    raise
            else:
                mine[name.strip()] += 1
        return mine

    with ThreadPoolExecutor(8) as threads:
        for part in threads.map(work, range(8)):
            done.update(part)
    if streams.get(store, stream.id).is_live:
        streams.stop(store, stream.id)
        done["stop"] += 1
    sessions = check_consistent(store, sql, stream.id)
    assert done["start"] == done["stop"] == len(sessions)
    assert done["start"] > 8
    assert done["join"] * 2 == sum(session.total_viewers for session in sessions)
    sent = sum(session.total_bytes_sent for session in sessions)
    assert sent == done["bytes"] + 1000 * done["stats"]


@pytest.mark.parametrize("commits", [True, False])
def test_start_waits_for_a_stop_in_a_transaction(
    store: Store, sql: psycopg.Connection, *, commits: bool
) -> None:
    stream = make_stream(store)
    first = streams.start(store, stream.id)
    with ThreadPoolExecutor(1) as threads:
        with contextlib.suppress(ZeroDivisionError), store.transaction() as transaction:
            streams.stop(transaction, stream.id)
            second = threads.submit(streams.start, store, stream.id)
            blocked(sql)
            if not commits:
                raise ZeroDivisionError
        if commits:
            assert second.result(10).id > first.id
        else:
            with pytest.raises(Conflict):
                second.result(10)
    assert len(check_consistent(store, sql, stream.id)) == 1 + commits


@pytest.mark.parametrize("commits", [True, False])
def test_start_waits_for_a_start_in_a_transaction(
    store: Store, sql: psycopg.Connection, *, commits: bool
) -> None:
    stream = make_stream(store)
    with ThreadPoolExecutor(1) as threads:
        with contextlib.suppress(ZeroDivisionError), store.transaction() as transaction:
            streams.start(transaction, stream.id)
            second = threads.submit(streams.start, store, stream.id)
            blocked(sql)
            # A stop sees nothing of what is not committed, and does not wait.
            with pytest.raises(Conflict):
                streams.stop(store, stream.id)
            if not commits:
                raise ZeroDivisionError
        if commits:
            with pytest.raises(Conflict):
                second.result(10)
        else:
            assert second.result(10).session_end is None
    assert len(check_consistent(store, sql, stream.id)) == 1


def test_stop_counts_what_a_transaction_before_it_added(store: Store, sql: psycopg.Connection) -> None:
    stream = make_stream(store)
    streams.start(store, stream.id)
    with ThreadPoolExecutor(1) as threads:
        with store.transaction() as transaction:
            stream_sessions.add_bytes(transaction, stream.id, 1000)
            streams.update_stats(transaction, stream.id, viewer_count=12)
            stopped = threads.submit(streams.stop, store, stream.id)
            blocked(sql)
        ended = stopped.result(10)
    assert (ended.total_bytes_sent, ended.peak_viewers) == (1000, 12)
    check_consistent(store, sql, stream.id)


def test_stop_after_a_stop_and_start_that_it_waited_for(store: Store, sql: psycopg.Connection) -> None:
    stream = make_stream(store)
    first = streams.start(store, stream.id)
    with ThreadPoolExecutor(1) as threads:
        with store.transaction() as transaction:
            streams.stop(transaction, stream.id)
            streams.start(transaction, stream.id)
            late = threads.submit(streams.stop, store, stream.id)
            blocked(sql)
        # It was asked to stop the first broadcast, which has ended; the second goes on.
        with pytest.raises(Conflict):
            late.result(10)
    sessions = check_consistent(store, sql, stream.id)
    assert [session.session_end is None for session in sessions] == [True, False]
    assert sessions[1].id == first.id


def test_delete_and_stop_do_not_wait_for_each_other(store: Store, sql: psycopg.Connection) -> None:
    # Both lock the session first. The other way round this is a deadlock.
    stream = make_stream(store)
    streams.start(store, stream.id)
    with ThreadPoolExecutor(1) as threads:
        with store.transaction() as transaction:
            stream_sessions.add_bytes(transaction, stream.id, 10)
            deleted = threads.submit(streams.delete, store, stream.id)
            blocked(sql)
            ended = streams.stop(transaction, stream.id)
        deleted.result(10)
    assert ended.total_bytes_sent == 10
    assert [row[1:3] for row in usage_of(sql, stream.id)] == [("stream_start", 0), ("stream_end", 10)]


def test_start_of_a_stream_being_deleted(store: Store, sql: psycopg.Connection) -> None:
    stream = make_stream(store)
    with ThreadPoolExecutor(1) as threads:
        with store.transaction() as transaction:
            streams.delete(transaction, stream.id)
            started = threads.submit(streams.start, store, stream.id)
            blocked(sql)
        with pytest.raises(NotFound) as caught:
            started.result(10)
    assert (caught.value.entity, caught.value.key) == ("stream", {"stream_id": stream.id})
    assert usage_of(sql, stream.id) == []
    assert store.redis.exists(keys.live(stream.id)) == 0
