"""Streams as rows: made, found, listed, changed, deleted, and their keys. On air: see test_streams_live."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from rootstream_store.cache import keys
from rootstream_store.errors import AlreadyExists, InvalidInput, NotFound
from rootstream_store.records import CreatedStream, Stream, StreamInfo
from rootstream_store.repositories import recordings, stream_sessions, streams, users
from rootstream_store.secret import Secret
from rootstream_store.store import Store

from .factories import make_stream, make_user

MISSING = 987_654


def without_key(stream: CreatedStream) -> Stream:
    return Stream(**{field: getattr(stream, field) for field in Stream.__struct_fields__})


def test_create_returns_what_get_returns_later(store: Store) -> None:
    user = make_user(store)
    made = streams.create(
        store,
        user.id,
        name="Evening show",
        description="Live from the roof",
        stream_url="rtmp://ingest.example/live",
        thumbnail_url="https://img.example/1.jpg",
        is_public=False,
    )
    assert streams.get(store, made.id) == without_key(made)
    assert (made.user_id, made.name, made.description) == (user.id, "Evening show", "Live from the roof")
    assert (made.stream_url, made.thumbnail_url) == (
        "rtmp://ingest.example/live",
        "https://img.example/1.jpg",
    )
    assert (made.is_live, made.is_public, made.viewer_count) == (False, False, 0)
    assert (made.started_at, made.ended_at, made.bitrate_kbps, made.codec) == (None, None, None, None)
    assert made.created_at.tzinfo is not None


def test_create_needs_only_a_name(store: Store) -> None:
    made = streams.create(store, make_user(store).id, name="x")
    assert made.is_public
    assert made.description is made.stream_url is made.thumbnail_url is None


def test_create_for_a_user_who_is_gone(store: Store) -> None:
    with pytest.raises(NotFound) as caught:
        streams.create(store, MISSING, name="x")
    assert caught.value.entity == "user"
    assert caught.value.key == {"user_id": MISSING}
    assert caught.value.constraint == "streams_user_id_fkey"
    assert caught.value.query == "sql/streams/create.sql"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "x" * 256),
        ("description", "x" * 10_001),
        ("stream_url", "x" * 2049),
        ("thumbnail_url", "x" * 2049),
    ],
)
def test_lengths_are_checked_on_create_and_update(store: Store, field: str, value: str) -> None:
    stream = make_stream(store)
    given: dict[str, Any] = {"name": "x", field: value}
    calls: list[Callable[[], object]] = [
        lambda: streams.create(store, stream.user_id, **given),
        lambda: streams.update(store, stream.id, **given),
    ]
    for call in calls:
        with pytest.raises(InvalidInput) as caught:
            call()
        assert caught.value.field == field
        assert caught.value.constraint == f"streams_{field}_length"
        assert not caught.value.retryable
    assert streams.get(store, stream.id) == without_key(stream)


def test_name_with_nul_is_refused_not_cut(store: Store) -> None:
    with pytest.raises(InvalidInput) as caught:
        streams.create(store, make_user(store).id, name="a\0b")
    assert caught.value.field == "name"


@pytest.mark.parametrize(
    "name", ["Robert'); DROP TABLE streams;--", "日本語 🎥", "%(name)s %s", "\\", "a\nb"]
)
def test_any_text_comes_back_equal(store: Store, name: str) -> None:
    assert streams.get(store, make_stream(store, name=name).id).name == name


def test_get_and_the_others_of_a_missing_stream(store: Store) -> None:
    calls: list[Callable[..., object]] = [
        streams.get,
        streams.get_key,
        streams.rotate_key,
        streams.get_viewer_count,
        streams.is_live,
        streams.update,
        streams.delete,
    ]
    for call in calls:
        with pytest.raises(NotFound) as caught:
            call(store, MISSING)
        assert caught.value.key == {"stream_id": MISSING}, call.__name__
        assert caught.value.entity == "stream"
        assert caught.value.query is not None
        assert caught.value.query.startswith(("sql/streams/", "sql/viewers/"))


@pytest.mark.parametrize("stream_id", [2**31, 2**40 + 5, 2**63 - 1])
def test_ids_above_2_31(store: Store, database_url: str, stream_id: int) -> None:
    user = make_user(store)
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "INSERT INTO streams (id, user_id, name, stream_key) VALUES (%s, %s, 'far', repeat('k', 43))",
            (stream_id, user.id),
        )
    assert streams.start(store, stream_id, bitrate_kbps=2**31 + 1).stream_id == stream_id
    assert streams.get(store, stream_id).bitrate_kbps == 2**31 + 1
    assert streams.is_live(store, stream_id)
    assert streams.stop(store, stream_id).session_end is not None


def test_update_changes_only_what_is_given(store: Store) -> None:
    made = make_stream(store, description="d", stream_url="u", thumbnail_url="t")
    renamed = streams.update(store, made.id, name="new")
    assert (renamed.name, renamed.description, renamed.stream_url) == ("new", "d", "u")
    cleared = streams.update(store, made.id, description=None, stream_url=None, thumbnail_url=None)
    assert cleared.description is cleared.stream_url is cleared.thumbnail_url is None
    assert cleared.name == "new"
    hidden = streams.update(store, made.id, is_public=False)
    assert not hidden.is_public
    assert streams.get(store, made.id) == hidden
    assert hidden.updated_at > made.updated_at


def test_update_of_nothing_leaves_updated_at(store: Store) -> None:
    made = make_stream(store)
    assert streams.update(store, made.id) == without_key(made)


@pytest.mark.parametrize("field", ["name", "is_public"])
def test_update_refuses_null_where_a_value_is_needed(store: Store, field: str) -> None:
    nothing: dict[str, Any] = {field: None}
    with pytest.raises(InvalidInput) as caught:
        streams.update(store, make_stream(store).id, **nothing)
    assert caught.value.field == field


# --- keys


def test_keys_have_256_random_bits(store: Store) -> None:
    # The former C++ layer had 32 bits behind 128 visible ones: equal keys within 300,000.
    user = make_user(store)
    made = [make_stream(store, user.id).stream_key.reveal() for _ in range(50)]
    assert len({key[:8] for key in made}) == len({key[-8:] for key in made}) == 50
    assert all(len(key) == 43 for key in made)


def test_get_by_key(store: Store) -> None:
    stream = make_stream(store)
    make_stream(store)
    info = StreamInfo(**{field: getattr(stream, field) for field in StreamInfo.__struct_fields__})
    assert streams.get_by_key(store, stream.stream_key) == info
    assert streams.get_by_key(store, stream.stream_key.reveal()) == info
    assert streams.get_key(store, stream.id) == stream.stream_key


@pytest.mark.parametrize("key", ["no-such-key-0123456789", "k\0ey-0123456789", "", "' OR '1'='1"])
def test_unknown_stream_keys_are_not_shown(store: Store, caplog: pytest.LogCaptureFixture, key: str) -> None:
    make_stream(store)
    caplog.set_level(logging.DEBUG)
    with pytest.raises((NotFound, InvalidInput)) as caught:
        streams.get_by_key(store, key)
    shown = str(caught.value) + repr(caught.value) + repr(vars(caught.value)) + caplog.text
    assert not key or key not in shown


def test_no_key_in_a_created_stream_shown(store: Store) -> None:
    stream = make_stream(store)
    assert stream.stream_key.reveal() not in repr(stream)
    assert stream.stream_key.reveal() not in str(stream)


def test_rotated_key_replaces_the_old_one_at_once(store: Store) -> None:
    stream = make_stream(store)
    streams.start(store, stream.id)
    new = streams.rotate_key(store, stream.id)
    assert isinstance(new, Secret)
    assert new != stream.stream_key
    assert streams.get_by_key(store, new).id == stream.id
    with pytest.raises(NotFound):
        streams.get_by_key(store, stream.stream_key)
    assert streams.get(store, stream.id).is_live


def test_a_key_that_is_taken_is_not_shown(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first = make_stream(store)
    caplog.set_level(logging.DEBUG)
    # Two random keys are never equal, so the generator is made to repeat itself.
    monkeypatch.setattr(Secret, "generate", lambda: first.stream_key)
    with pytest.raises(AlreadyExists) as caught:
        streams.create(store, first.user_id, name="x")
    assert (caught.value.field, caught.value.value) == ("stream_key", None)
    assert first.stream_key.reveal() not in str(caught.value) + repr(caught.value.__cause__) + caplog.text


# --- lists


def test_list_by_user_page_by_page(store: Store) -> None:
    user = make_user(store)
    ids = [make_stream(store, user.id).id for _ in range(5)]
    make_stream(store)
    first = streams.list_by_user(store, user.id, limit=2)
    second = streams.list_by_user(store, user.id, after_id=first[-1].id, limit=2)
    third = streams.list_by_user(store, user.id, after_id=second[-1].id, limit=2)
    assert [stream.id for stream in first + second + third] == ids
    assert streams.list_by_user(store, user.id, after_id=ids[-1]) == []
    assert streams.list_by_user(store, MISSING) == []


def test_list_live_holds_public_streams_on_air(store: Store) -> None:
    public = [make_stream(store) for _ in range(3)]
    private = make_stream(store, is_public=False)
    make_stream(store)
    for stream in [*public, private]:
        streams.start(store, stream.id)
    assert [stream.id for stream in streams.list_live(store)] == [stream.id for stream in public]
    assert [stream.id for stream in streams.list_live(store, after_id=public[0].id, limit=1)] == [
        public[1].id
    ]
    streams.stop(store, public[1].id)
    streams.update(store, public[2].id, is_public=False)
    assert [stream.id for stream in streams.list_live(store)] == [public[0].id]


@pytest.mark.parametrize("limit", [0, -1, 1001, True, 1.5, "10", None])
def test_limit_is_checked(store: Store, limit: int) -> None:
    for call in (
        lambda: streams.list_by_user(store, 1, limit=limit),
        lambda: streams.list_live(store, limit=limit),
        lambda: stream_sessions.list_(store, 1, limit=limit),
    ):
        with pytest.raises(InvalidInput) as caught:
            call()
        assert caught.value.field == "limit"


# --- delete


def test_delete_takes_sessions_and_recordings_and_keeps_usage(store: Store, database_url: str) -> None:
    stream, other = make_stream(store), make_stream(store)
    for each in (stream, other):
        session = streams.start(store, each.id)
        recordings.create(store, each.id, file_path="/r", session_id=session.id)
        streams.stop(store, each.id)
    streams.delete(store, stream.id)
    with pytest.raises(NotFound):
        streams.get(store, stream.id)
    assert not stream_sessions.list_(store, stream.id)
    assert not recordings.list_by_stream(store, stream.id)
    assert len(stream_sessions.list_(store, other.id)) == len(recordings.list_by_stream(store, other.id)) == 1
    with psycopg.connect(database_url) as connection:
        usage = "SELECT event_type FROM usage_logs WHERE stream_id = %s ORDER BY id"
        assert connection.execute(usage, (stream.id,)).fetchall() == [("stream_start",), ("stream_end",)]


def test_delete_of_a_live_stream_logs_what_was_sent_and_tells(store: Store, database_url: str) -> None:
    stream = make_stream(store)
    streams.start(store, stream.id)
    stream_sessions.add_bytes(store, stream.id, 5_000)
    stream_sessions.add_viewers(store, stream.id, joined=1)
    assert streams.is_live(store, stream.id)
    with store.subscribe(keys.events(stream.id)) as messages:
        streams.delete(store, stream.id)
        assert messages.get(timeout=5) == (keys.events(stream.id), b"ended")
    with pytest.raises(NotFound):
        streams.is_live(store, stream.id)
    assert store.redis.exists(keys.viewers(stream.id)) == 0
    with psycopg.connect(database_url) as connection:
        usage = "SELECT bytes_transferred FROM usage_logs WHERE stream_id = %s AND event_type = 'stream_end'"
        assert connection.execute(usage, (stream.id,)).fetchall() == [(5_000,)]


def test_delete_twice(store: Store) -> None:
    stream = make_stream(store)
    streams.delete(store, stream.id)
    with pytest.raises(NotFound):
        streams.delete(store, stream.id)


def test_deleted_user_takes_streams_along(store: Store) -> None:
    stream = make_stream(store)
    users.delete(store, stream.user_id)
    with pytest.raises(NotFound):
        streams.get(store, stream.id)


def test_nothing_of_a_rolled_back_transaction_stays(store: Store) -> None:
    stream = make_stream(store)
    made: list[CreatedStream] = []

    def work() -> None:
        with store.transaction() as transaction:
            made.append(streams.create(transaction, stream.user_id, name="x"))
            streams.update(transaction, stream.id, name="changed")
            new_key = streams.rotate_key(transaction, stream.id)
            assert streams.get_by_key(transaction, new_key).name == "changed"
            streams.delete(transaction, stream.id)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert streams.get(store, stream.id) == without_key(stream)
    assert streams.get_key(store, stream.id) == stream.stream_key
    with pytest.raises(NotFound):
        streams.get(store, made[0].id)


def test_a_new_stream_is_there_although_its_id_was_asked_for_before(store: Store) -> None:
    stream = make_stream(store)
    with pytest.raises(NotFound):
        streams.is_live(store, stream.id + 1)
    made = make_stream(store, stream.user_id)
    assert made.id == stream.id + 1
    assert streams.is_live(store, made.id) is False


def test_get_many_in_order_of_id(store: Store) -> None:
    made = [make_stream(store) for _ in range(3)]
    assert streams.get_many(store, [made[2].id, 999, made[0].id]) == [
        streams.get(store, made[0].id),
        streams.get(store, made[2].id),
    ]
    with pytest.raises(InvalidInput, match="stream_ids"):
        streams.get_many(store, range(1001))
