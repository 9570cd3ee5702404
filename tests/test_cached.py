"""What is answered from Redis: users by id, streams by key; each write is seen at once by every store."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from rootstream_store.errors import NotFound
from rootstream_store.records import Stream, StreamInfo
from rootstream_store.repositories import stream_sessions, streams, users
from rootstream_store.secret import Secret
from rootstream_store.store import Store

from .factories import PASSWORD, make_stream, make_user


@pytest.fixture
def other(database_url: str, redis_url: str) -> Iterator[Store]:
    """Another process, as far as the cache goes."""
    with Store.open(database_url, redis_url) as opened:
        yield opened


def asked(store: Store, call: Callable[[], object]) -> list[str]:
    """The queries that PostgreSQL was asked for it."""
    names: list[str] = []

    def note(name: str, action: Callable[[], object]) -> object:
        names.append(name)
        return action()

    store.observe(note)
    try:
        call()
    finally:
        store.observe(None)
    return names


def is_unknown(store: Store, key: Secret) -> bool:
    try:
        streams.get_by_key(store, key)
    except NotFound:
        return True
    return False


USERS: dict[str, Callable[[Store, int], object]] = {
    "update_profile": lambda store, user: users.update_profile(store, user, display_name="Ann"),
    "set_email": lambda store, user: users.set_email(store, user, "ann@example.com"),
    "verify": lambda store, user: users.verify(store, user),
    "record_login": lambda store, user: users.record_login(store, user),
    "set_password": lambda store, user: users.set_password(store, user, "another word"),
    "deactivate": lambda store, user: users.deactivate(store, user),
    "authenticate": lambda store, user: users.authenticate(
        store, login=users.get(store, user).username, password=PASSWORD
    ),
}
STREAMS: dict[str, Callable[[Store, int], object]] = {
    "update": lambda store, stream: streams.update(store, stream, name="other"),
    "start": lambda store, stream: streams.start(store, stream),
    "stop": lambda store, stream: streams.stop(store, stream),
    "end": lambda store, stream: stream_sessions.end(
        store, stream, stream_sessions.get_current(store, stream).id
    ),
}


def in_a_transaction(call: Callable[[Store, int], object]) -> Callable[[Store, int], object]:
    def run(store: Store, number: int) -> object:
        with store.transaction() as tx:
            return call(tx, number)  # type: ignore[arg-type]  # any Db will do

    return run


@pytest.mark.parametrize("wrap", [lambda call: call, in_a_transaction], ids=["alone", "in a transaction"])
class TestWrites:
    @pytest.mark.parametrize("name", USERS)
    def test_a_user(
        self,
        store: Store,
        other: Store,
        name: str,
        wrap: Callable[[Callable[[Store, int], object]], Callable[[Store, int], object]],
    ) -> None:
        user = make_user(store)
        for each in (store, other):
            users.get(each, user.id)
        wrap(USERS[name])(store, user.id)
        changed = users.get(other, user.id)
        assert changed.updated_at > user.updated_at
        with store.transaction() as tx:
            assert users.get(tx, user.id) == changed == users.get(store, user.id)

    @pytest.mark.parametrize("name", STREAMS)
    def test_a_stream(
        self,
        store: Store,
        other: Store,
        name: str,
        wrap: Callable[[Callable[[Store, int], object]], Callable[[Store, int], object]],
    ) -> None:
        stream = make_stream(store)
        if name in ("stop", "end"):
            streams.start(store, stream.id)
        for each in (store, other):
            before = streams.get_by_key(each, stream.stream_key)
        wrap(STREAMS[name])(store, stream.id)
        changed = streams.get_by_key(other, stream.stream_key)
        assert changed != before
        assert changed == info_of(streams.get(store, stream.id))
        with store.transaction() as tx:
            assert streams.get_by_key(tx, stream.stream_key) == changed


def info_of(stream: Stream) -> StreamInfo:
    return StreamInfo(**{name: getattr(stream, name) for name in StreamInfo.__struct_fields__})


def test_postgres_is_asked_once(store: Store, other: Store) -> None:
    stream = make_stream(store)
    assert asked(store, lambda: users.get(store, stream.user_id)) == ["users/get"]
    assert asked(store, lambda: users.get(store, stream.user_id)) == []
    assert asked(other, lambda: users.get(other, stream.user_id)) == []
    found = asked(store, lambda: streams.get_by_key(store, stream.stream_key))
    assert found == ["streams/find_id_by_key", "streams/get_info"]
    for each in (store, other):
        assert asked(each, lambda each=each: streams.get_by_key(each, stream.stream_key)) == []  # type: ignore[misc]  # a default for a variable of the loop
    streams.update_stats(store, streams.start(store, stream.id).stream_id, viewer_count=7)
    streams.get_by_key(store, stream.stream_key)
    streams.update_stats(store, stream.id, viewer_count=8, bitrate_kbps=6000)
    assert asked(store, lambda: streams.get_by_key(store, stream.stream_key)) == [], "a report renews nothing"


def test_in_a_transaction_one_query_and_always_from_postgres(store: Store) -> None:
    stream = make_stream(store)
    streams.get_by_key(store, stream.stream_key)
    names: list[str] = []

    def note(name: str, action: Callable[[], object]) -> object:
        names.append(name)
        return action()

    store.observe(note)
    with store.transaction() as tx:
        streams.get_by_key(tx, stream.stream_key)
        users.get(tx, stream.user_id)
    store.observe(None)
    assert names == ["streams/get_by_key", "users/get"]


def test_what_is_not_there_is_known_for_a_while_but_not_once_it_is_made(store: Store, other: Store) -> None:
    user = make_user(store)

    def ask() -> None:
        with pytest.raises(NotFound):
            users.get(other, user.id + 1)

    ask()
    assert asked(other, ask) == []
    made = users.create(store, username="next", email="next@example.com", password=PASSWORD)
    assert made.id == user.id + 1
    assert users.get(other, made.id) == made


class TestKeys:
    def test_a_rotated_one_is_refused_at_once(self, store: Store, other: Store) -> None:
        stream = make_stream(store)
        key = stream.stream_key
        for _ in range(3):
            for each in (store, other):
                assert streams.get_by_key(each, key).id == stream.id
            new = streams.rotate_key(store, stream.id)
            for each in (other, store):
                assert is_unknown(each, key)
                assert streams.get_by_key(each, new).id == stream.id
            key = new

    @pytest.mark.parametrize("whole", ["stream", "user"])
    def test_that_of_a_deleted_stream(self, store: Store, other: Store, whole: str) -> None:
        stream = make_stream(store)
        for each in (store, other):
            streams.get_by_key(each, stream.stream_key)
        if whole == "stream":
            streams.delete(store, stream.id)
        else:
            users.delete(store, stream.user_id)
        assert is_unknown(other, stream.stream_key)
        assert is_unknown(store, stream.stream_key)

    def test_one_that_another_stream_gets(self, store: Store, other: Store) -> None:
        """A hint of this process points to the stream that had it before."""
        one, two = make_stream(store), make_stream(store)
        for each in (store, other):
            assert streams.get_by_key(each, one.stream_key).id == one.id
        with store.transaction() as tx:
            streams.rotate_key(tx, one.id)
        from rootstream_store.repositories.streams import _ROTATE_KEY

        # As rotate_key does, to a key of our choice.
        store.one(_ROTATE_KEY, stream_id=two.id, stream_key=one.stream_key.reveal())
        store.sweep_invalidations()
        store.redis.flushdb()
        for each in (store, other):
            assert streams.get_by_key(each, one.stream_key).id == two.id
            assert is_unknown(each, two.stream_key)

    def test_no_key_and_no_digest_of_a_key_is_shown(self, store: Store) -> None:
        stream = make_stream(store)
        key = stream.stream_key.reveal()
        found = streams.get_by_key(store, stream.stream_key)
        assert type(found) is StreamInfo
        assert key not in repr(found)
        names: list[bytes] = store.redis.keys("*")  # type: ignore[assignment]  # redis-py: or an awaitable
        assert names
        values: list[bytes] = store.redis.mget(names)  # type: ignore[assignment]  # the same
        assert key.encode() not in b"".join([*names, *values])
