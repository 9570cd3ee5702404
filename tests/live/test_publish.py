"""What is published, when, in how many round trips, and what the repositories publish."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from rootstream_store import live, sessions, stream_sessions, streams, users, viewers
from rootstream_store.cache import Message, keys
from rootstream_store.store import Store

from ..cache.conftest import OwnValkey
from ..factories import make_stream, make_stream_session, make_user
from ..undo import rolled_back
from .conftest import Goal, MakeStore, drain


def received(messages: live.LiveSubscription, count: int) -> list[live.Message]:
    found = drain(messages, count)
    assert all(isinstance(one, live.Received) for one in found), found
    assert messages.get(0.05) is None
    return [one.message for one in found if isinstance(one, live.Received)]  # type: ignore[misc]  # all are known types


def test_a_message_is_sent_after_the_commit_and_not_after_a_rollback(store: Store) -> None:
    with live.subscribe(store, types=[Goal]) as messages:
        with rolled_back(store) as tx:
            live.publish(tx, Goal(stream_id=1))
        with store.transaction() as tx:
            live.publish(tx, Goal(stream_id=2), Goal(stream_id=3))
            live.publish(tx, Goal(stream_id=5), soon=True)
            assert messages.get(0.1) is None
        live.publish(store, Goal(stream_id=6))
        got = received(messages, 4)
    assert {one.stream_id for one in got if isinstance(one, Goal)} == {2, 3, 5, 6}


def test_messages_that_wait_for_the_thread_keep_their_order(store: Store) -> None:
    with live.subscribe(store, types=[Goal]) as messages:
        for number in range(5000):
            live.publish(store, Goal(stream_id=1, number=number), soon=True)
        got = drain(messages, 5000)
    assert [one.message.number for one in got] == list(range(5000))  # type: ignore[union-attr]  # Goals


def test_closing_the_store_sends_what_waits(store: Store, database_url: str, redis_url: str) -> None:
    with live.subscribe(store, types=[Goal]) as messages:
        with Store.open(database_url, redis_url) as other:
            for number in range(1000):
                live.publish(other, Goal(stream_id=1, number=number), soon=True)
        assert len(received(messages, 1000)) == 1000


def test_what_is_published_after_the_end_is_counted_as_lost(make_store: MakeStore) -> None:
    store = make_store()
    live.publish(store, Goal(stream_id=1), soon=True)
    store.close()
    for _ in range(3):
        live.publish(store, Goal(stream_id=1), soon=True)
    assert store._cache.counters.lost_effects == 3
    store.close()
    assert store._cache.counters.lost_effects == 3


def test_a_commit_is_one_round_trip_however_many_messages(own: Store, own_valkey: OwnValkey) -> None:
    live.publish(own, Goal(stream_id=1))

    def reads() -> int:
        return int(own.redis.info("stats")["total_reads_processed"])

    before = reads()
    live.publish(own, *(Goal(stream_id=1, number=number) for number in range(20)))
    assert reads() - before == 2, "one is the INFO itself"
    assert own.redis.xlen(keys.MESSAGES) == 21


def test_viewers_who_come_and_go_are_told_where_it_is_asked_for(store: Store) -> None:
    stream_id = make_stream_session(store).stream_id
    with live.subscribe(store, "viewer.*") as messages:
        viewers.join(store, stream_id, "quiet")
        viewers.join(store, stream_id, "ann", announce=True)
        viewers.join(store, stream_id, "ann", announce=True)  # is there
        viewers.leave(store, stream_id, "ann", announce=True)
        viewers.leave(store, stream_id, "ann", announce=True)  # is gone
        assert received(messages, 2) == [
            live.ViewerJoined(stream_id=stream_id, viewer_id="ann", viewers=2),
            live.ViewerLeft(stream_id=stream_id, viewer_id="ann", viewers=1),
        ]


def test_ids_follow_one_another_without_a_hole(store: Store) -> None:
    live.publish(store, *(Goal(stream_id=1) for _ in range(10)))
    for _ in range(10):
        live.publish(store, Goal(stream_id=1))
    with live.subscribe(store, since="start") as messages:
        ids = [one.id for one in drain(messages, 20) if isinstance(one, live.Received)]
    numbers = [int(one.partition("-")[2]) for one in ids]
    assert numbers == list(range(numbers[0], numbers[0] + 20))


def test_other_programs_are_woken_by_the_channel_and_read_plain_json(store: Store) -> None:
    with store.subscribe(keys.MESSAGES) as woken:
        live.publish(store, Goal(stream_id=7))
        message = woken.get(10)
    assert isinstance(message, Message)
    found: Any = store.redis.xrevrange(keys.MESSAGES, count=1)
    assert found[0][0] == message.data
    assert found[0][1][b"t"] == b"goal.7.reached"
    assert b'"type":"goal.reached"' in found[0][1][b"m"]


def test_without_redis_publishing_does_nothing(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REDIS_URL", raising=False)
    with Store.open(database_url) as bare:
        live.publish(bare, Goal(stream_id=1))
        live.publish(bare, Goal(stream_id=1), soon=True)
        live.push_state(bare, 1, {"a": 1})


def test_streams_tell_of_start_and_stop_also_on_the_old_channel(store: Store) -> None:
    stream = make_stream(store)
    with (
        live.subscribe(store, f"stream.{stream.id}.*") as messages,
        store.subscribe(keys.events(stream.id)) as old,
    ):
        session = streams.start(store, stream.id)
        ended = streams.stop(store, stream.id)
        second = streams.start(store, stream.id)
        stream_sessions.end(store, stream.id, second.id)
        streams.start(store, stream.id)
        streams.delete(store, stream.id)
        got = received(messages, 6)
        words = [old.get(10) for _ in range(6)]
    assert got[0] == live.StreamStarted(
        stream_id=stream.id, session_id=session.id, started_at=session.session_start
    )
    assert got[1] == live.StreamStopped(
        stream_id=stream.id,
        session_id=session.id,
        ended_at=ended.session_end,
        duration_seconds=ended.duration_seconds,
        peak_viewers=0,
    )
    assert isinstance(got[3], live.StreamStopped)
    assert got[3].session_id == second.id
    assert got[5] == live.StreamStopped(stream_id=stream.id, is_deleted=True)
    assert [word[1] for word in words if isinstance(word, Message)] == [b"started", b"ended"] * 3


USER_CHANGES: dict[str, Callable[[Store, int], object]] = {
    "profile": lambda store, user_id: users.update_profile(store, user_id, display_name="Ann"),
    "email": lambda store, user_id: users.set_email(store, user_id, "new@example.org"),
    "verified": lambda store, user_id: users.verify(store, user_id),
    "activated": lambda store, user_id: users.activate(store, user_id),
}


@pytest.mark.parametrize("change", USER_CHANGES)
def test_a_change_of_an_account_is_told(store: Store, change: str) -> None:
    user = make_user(store)
    with live.subscribe(store) as messages:
        USER_CHANGES[change](store, user.id)
        got = received(messages, 1)
    user = users.get(store, user.id)
    assert got == [
        live.UserUpdated(
            user_id=user.id,
            change=change,
            username=user.username,
            display_name=user.display_name,
            avatar_url=user.avatar_url,
            is_verified=user.is_verified,
            is_active=user.is_active,
            updated_at=user.updated_at,
        )
    ]


def test_login_sessions_tell_of_their_beginning_and_end_without_a_secret(store: Store) -> None:
    user = make_user(store)
    with live.subscribe(store, f"session.{user.id}.*") as messages:
        made = [sessions.create(store, user.id, device_id=f"d{n}") for n in range(6)]
        sessions.revoke(store, made[0].token)
        sessions.revoke_hash(store, made[1].token_hash)
        sessions.revoke_all(store, user.id, except_token=made[2].token)
        users.set_password(store, user.id, "another password")
        last = sessions.create(store, user.id, lifetime=timedelta(hours=1))
        users.deactivate(store, user.id)
        got = received(messages, 14)
    names = {live.session_id(one.token_hash) for one in (*made, last)}
    assert {one.session_id for one in got if isinstance(one, live.SessionCreated)} == names
    assert {one.session_id for one in got if isinstance(one, live.SessionRevoked)} == names
    assert got[0] == live.SessionCreated(
        user_id=user.id,
        session_id=live.session_id(made[0].token_hash),
        expires_at=made[0].expires_at,
        device_id="d0",
    )
    everything = repr(store.redis.xrange(keys.MESSAGES))
    for one in (*made, last):
        assert one.token.reveal() not in everything
        assert one.token_hash.hex() not in everything
        assert repr(one.token_hash) not in everything


def test_deleting_an_account_tells_all_that_ends_with_it(store: Store) -> None:
    stream = make_stream(store)
    session = sessions.create(store, stream.user_id)
    streams.start(store, stream.id)
    with live.subscribe(store) as messages:
        users.delete(store, stream.user_id)
        got = received(messages, 3)
    assert got == [
        live.StreamStopped(stream_id=stream.id, is_deleted=True),
        live.SessionRevoked(user_id=stream.user_id, session_id=live.session_id(session.token_hash)),
        live.UserUpdated(user_id=stream.user_id, change="deleted"),
    ]


def test_whoever_is_told_reads_what_is_new(own: Store, own_valkey: OwnValkey) -> None:
    """Also where Redis did not take the marker before the statement."""
    stream = make_stream(own)
    assert not streams.is_live(own, stream.id)
    with own.redis.monitor() as monitor:  # type: ignore[no-untyped-call]  # redis-py's
        streams.start(own, stream.id)
        own.redis.echo("the end")
        seen = []
        for heard in monitor.listen():
            seen.append(heard["command"].split()[0].upper())
            if seen[-1] == "ECHO":
                break
    assert "UNLINK" in seen
    assert seen.index("UNLINK") < seen.index("PUBLISH")
