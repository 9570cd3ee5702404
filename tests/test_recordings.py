"""Recordings: made, finished, listed, expired, deleted."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from rootstream_store.errors import AlreadyExists, InvalidInput, NotFound
from rootstream_store.records import Recording
from rootstream_store.repositories import recordings, streams
from rootstream_store.store import Store

from .factories import make_stream, make_stream_session
from .together import together

MISSING = 987_654


def test_create_returns_what_get_returns_later(store: Store) -> None:
    session = make_stream_session(store)
    expires = datetime.now(UTC) + timedelta(days=30)
    made = recordings.create(
        store,
        session.stream_id,
        file_path="/recordings/2026/1.mkv",
        session_id=session.id,
        codec="h264",
        resolution="1920x1080",
        fps=59.94,
        bitrate_kbps=6000,
        expires_at=expires,
    )
    assert recordings.get(store, session.stream_id, made.id) == made
    assert (made.stream_id, made.session_id) == (session.stream_id, session.id)
    assert (made.file_path, made.file_size_bytes, made.duration_seconds) == ("/recordings/2026/1.mkv", 0, 0)
    assert (made.codec, made.resolution, made.fps, made.bitrate_kbps) == ("h264", "1920x1080", 59.94, 6000)
    assert (made.is_processed, made.is_available, made.expires_at) == (False, True, expires)


def test_create_needs_only_a_path(store: Store) -> None:
    made = recordings.create(store, make_stream(store).id, file_path="x")
    assert (made.session_id, made.codec, made.fps, made.expires_at) == (None, None, None, None)


def test_create_for_what_is_gone(store: Store) -> None:
    with pytest.raises(NotFound) as caught:
        recordings.create(store, MISSING, file_path="x")
    assert (caught.value.entity, caught.value.key) == ("stream", {"stream_id": MISSING})
    assert caught.value.query == "sql/recordings/create.sql"
    session = make_stream_session(store)
    for stream_id, session_id in ((session.stream_id, MISSING), (make_stream(store).id, session.id)):
        with pytest.raises(NotFound) as caught:
            recordings.create(store, stream_id, file_path="x", session_id=session_id)
        assert caught.value.constraint == "recordings_session_id_fkey"
        assert caught.value.key == {"session_id": session_id}


def test_a_path_is_unique_within_its_stream(store: Store) -> None:
    stream = make_stream(store)
    recordings.create(store, stream.id, file_path="/a.mkv")
    recordings.create(store, make_stream(store).id, file_path="/a.mkv")
    outcomes = together([lambda: recordings.create(store, stream.id, file_path="/b.mkv")] * 4)
    assert sum(isinstance(outcome, Recording) for outcome in outcomes) == 1
    with pytest.raises(AlreadyExists) as caught:
        recordings.create(store, stream.id, file_path="/a.mkv")
    assert (caught.value.field, caught.value.value) == ("file_path", "/a.mkv")
    assert caught.value.constraint == "recordings_file_path_key"
    assert len(recordings.list_by_stream(store, stream.id)) == 2


@pytest.mark.parametrize(
    ("field", "value", "constraint"),
    [
        ("file_path", "", "recordings_file_path_length"),
        ("file_path", "x" * 2049, "recordings_file_path_length"),
        ("file_path", "a\0b", None),
        ("file_path", None, None),
        ("codec", "x" * 65, "recordings_codec_length"),
        ("resolution", "1920*1080", "recordings_resolution_format"),
        ("fps", -1, "recordings_fps_range"),
        ("bitrate_kbps", -1, "recordings_bitrate_kbps_range"),
        ("bitrate_kbps", 2**63, None),
        ("expires_at", datetime(2001, 1, 1, tzinfo=UTC), "recordings_expires_at_order"),
        ("expires_at", datetime(2099, 1, 1), None),  # without time zone on purpose
    ],
)
def test_create_with_bad_values(store: Store, field: str, value: object, constraint: str | None) -> None:
    stream = make_stream(store)
    given: dict[str, Any] = {"file_path": "x", field: value}
    with pytest.raises(InvalidInput) as caught:
        recordings.create(store, stream.id, **given)
    assert (caught.value.field, caught.value.constraint) == (field, constraint)
    assert recordings.list_by_stream(store, stream.id) == []


def test_sizes_and_bitrates_above_2_31(store: Store) -> None:
    made = recordings.create(store, make_stream(store).id, file_path="x", bitrate_kbps=2**31 + 1)
    assert made.bitrate_kbps == 2**31 + 1
    done = recordings.finish(
        store, made.stream_id, made.id, file_size_bytes=2**50, duration_seconds=2**31 + 1
    )
    assert (done.file_size_bytes, done.duration_seconds) == (2**50, 2**31 + 1)


def test_ids_above_2_31(store: Store, database_url: str) -> None:
    stream = make_stream(store)
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "INSERT INTO recordings (stream_id, id, file_path) VALUES (%s, %s, 'far')", (stream.id, 2**40)
        )
    assert recordings.get(store, stream.id, 2**40).file_path == "far"
    assert [found.id for found in recordings.list_by_stream(store, stream.id, after_id=2**31)] == [2**40]


def test_finish_process_and_hide(store: Store) -> None:
    made = recordings.create(store, make_stream(store).id, file_path="x")
    other = recordings.create(store, made.stream_id, file_path="y")
    done = recordings.finish(store, made.stream_id, made.id, file_size_bytes=123, duration_seconds=4)
    assert (done.file_size_bytes, done.duration_seconds, done.is_processed) == (123, 4, False)
    assert recordings.mark_processed(store, made.stream_id, made.id).is_processed
    hidden = recordings.set_available(store, made.stream_id, made.id, is_available=False)
    assert (hidden.is_available, hidden.is_processed, hidden.file_size_bytes) == (False, True, 123)
    assert recordings.get(store, made.stream_id, made.id) == hidden
    assert recordings.set_available(store, made.stream_id, made.id, is_available=True).is_available
    assert recordings.get(store, made.stream_id, other.id) == other


@pytest.mark.parametrize("field", ["file_size_bytes", "duration_seconds"])
@pytest.mark.parametrize("value", [-1, 2**63, None, 1.5])
def test_finish_with_bad_values(store: Store, field: str, value: object) -> None:
    made = recordings.create(store, make_stream(store).id, file_path="x")
    given: dict[str, Any] = {"file_size_bytes": 1, "duration_seconds": 1, field: value}
    with pytest.raises(InvalidInput) as caught:
        recordings.finish(store, made.stream_id, made.id, **given)
    assert caught.value.field == field
    assert recordings.get(store, made.stream_id, made.id) == made


def test_a_recording_that_is_gone(store: Store) -> None:
    made = recordings.create(store, make_stream(store).id, file_path="x")
    other = make_stream(store).id
    calls: list[Callable[[int, int], object]] = [
        lambda s, r: recordings.get(store, s, r),
        lambda s, r: recordings.finish(store, s, r, file_size_bytes=1, duration_seconds=1),
        lambda s, r: recordings.mark_processed(store, s, r),
        lambda s, r: recordings.set_available(store, s, r, is_available=False),
        lambda s, r: recordings.delete(store, s, r),
    ]
    for stream_id, recording_id in ((made.stream_id, MISSING), (other, made.id)):
        for call in calls:
            with pytest.raises(NotFound) as caught:
                call(stream_id, recording_id)
            assert caught.value.entity == "recording"
            assert caught.value.key == {"stream_id": stream_id, "recording_id": recording_id}
    assert recordings.get(store, made.stream_id, made.id) == made


def test_lists_page_by_page(store: Store) -> None:
    session = make_stream_session(store)
    stream_id = session.stream_id
    made = [
        recordings.create(store, stream_id, file_path=str(n), session_id=session.id if n % 2 else None)
        for n in range(5)
    ]
    recordings.create(store, make_stream(store).id, file_path="other")
    first = recordings.list_by_stream(store, stream_id, limit=3)
    assert first + recordings.list_by_stream(store, stream_id, after_id=first[-1].id, limit=3) == made
    assert recordings.list_by_session(store, stream_id, session.id) == made[1::2]
    assert recordings.list_by_session(store, stream_id, session.id, after_id=made[1].id) == [made[3]]
    assert recordings.list_by_session(store, stream_id, session.id, limit=1) == [made[1]]
    assert recordings.list_by_session(store, stream_id, MISSING) == []


@pytest.mark.parametrize("limit", [0, 1001, True, None])
def test_limit_is_checked(store: Store, limit: Any) -> None:
    calls: list[Callable[[], object]] = [
        lambda: recordings.list_by_stream(store, 1, limit=limit),
        lambda: recordings.list_by_session(store, 1, 1, limit=limit),
        lambda: recordings.list_expired(store, limit=limit),
    ]
    for call in calls:
        with pytest.raises(InvalidInput) as caught:
            call()
        assert caught.value.field == "limit"


def test_expired_ones_longest_expired_first(store: Store, database_url: str) -> None:
    now = datetime.now(UTC)
    stream = make_stream(store)
    days = {name: now + timedelta(days=day) for name, day in (("late", 9), ("soon", 1), ("mid", 5))}
    made = {
        name: recordings.create(store, stream.id, file_path=name, expires_at=day)
        for name, day in days.items()
    }
    recordings.create(store, stream.id, file_path="kept")
    assert recordings.list_expired(store) == []
    assert recordings.list_expired(store, now=days["mid"]) == [made["soon"], made["mid"]]
    assert recordings.list_expired(store, now=now + timedelta(days=99), limit=1) == [made["soon"]]
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "UPDATE recordings SET created_at = now() - interval '2 h', expires_at = now() - interval '1 h'"
            " WHERE file_path = 'mid'"
        )
    assert [found.file_path for found in recordings.list_expired(store)] == ["mid"]
    recordings.delete(store, stream.id, made["mid"].id)
    assert recordings.list_expired(store) == []
    with pytest.raises(InvalidInput) as caught:
        recordings.list_expired(store, now=datetime(2099, 1, 1))  # without time zone on purpose
    assert caught.value.field == "now"


def test_a_recording_outlives_its_session(store: Store, database_url: str) -> None:
    session = make_stream_session(store)
    streams.stop(store, session.stream_id)
    made = recordings.create(store, session.stream_id, file_path="x", session_id=session.id)
    with psycopg.connect(database_url) as connection:
        connection.execute("DELETE FROM stream_sessions")
    assert recordings.get(store, made.stream_id, made.id).session_id is None


def test_delete(store: Store) -> None:
    made = recordings.create(store, make_stream(store).id, file_path="x")
    recordings.delete(store, made.stream_id, made.id)
    with pytest.raises(NotFound):
        recordings.delete(store, made.stream_id, made.id)
    assert recordings.create(store, made.stream_id, file_path="x").id > made.id


def test_nothing_of_a_rolled_back_transaction_stays(store: Store) -> None:
    kept = recordings.create(store, make_stream(store).id, file_path="kept")

    def work() -> None:
        with store.transaction() as transaction:
            recordings.create(transaction, kept.stream_id, file_path="x")
            recordings.mark_processed(transaction, kept.stream_id, kept.id)
            recordings.delete(transaction, kept.stream_id, kept.id)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert recordings.list_by_stream(store, kept.stream_id) == [kept]
