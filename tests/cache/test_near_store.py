"""Repositories with the near-cache on: answers kept as records, and what another store changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from rootstream_store import Store, sessions, streams
from rootstream_store.errors import AuthenticationFailed, NotFound, StoreClosed

from ..factories import make_stream, make_user
from .conftest import OwnValkey, until

MakeStore = Callable[..., Store]


@pytest.fixture
def make_store(database_url: str, own_valkey: OwnValkey) -> Iterator[MakeStore]:
    """Makes stores on a Redis of the test's own; settings as keyword arguments. Closed at the end."""
    made: list[Store] = []

    def make(**values: Any) -> Store:
        made.append(Store.open(database_url, own_valkey.url, redis_retry_after=0.2, **values))
        return made[-1]

    yield make
    for store in made:
        store.close()


@pytest.fixture
def near_store(make_store: MakeStore) -> Store:
    return make_store(near_cache_entries=100, near_cache_sessions=True)


def hits(store: Store) -> int:
    return store.health().redis.counters.near.hits


def warm(store: Store, read: Callable[[], object]) -> None:
    """Have the answer of `read` in the near-cache."""

    def is_kept() -> bool:
        before = hits(store)
        read()
        return hits(store) > before

    until(is_kept, "the answer to be kept")


def test_the_record_itself_is_kept(near_store: Store) -> None:
    token = sessions.create(near_store, make_user(near_store).id).token
    warm(near_store, lambda: sessions.validate(near_store, token))
    assert sessions.validate(near_store, token) is sessions.validate(near_store, token)


def test_what_another_store_does_is_seen(near_store: Store, make_store: MakeStore) -> None:
    other = make_store()
    stream = make_stream(other)
    token = sessions.create(other, make_user(other).id).token
    warm(near_store, lambda: streams.is_live(near_store, stream.id))
    warm(near_store, lambda: sessions.validate(near_store, token))
    streams.start(other, stream.id)
    until(lambda: streams.is_live(near_store, stream.id), "the start to be seen")
    sessions.revoke(other, token)

    def is_refused() -> bool:
        try:
            sessions.validate(near_store, token)
        except AuthenticationFailed:
            return True
        return False

    until(is_refused, "the session to be refused")


def test_its_own_writes_are_seen_at_once(near_store: Store) -> None:
    stream = make_stream(near_store)
    token = sessions.create(near_store, make_user(near_store).id).token
    for _ in range(5):
        warm(near_store, lambda: streams.is_live(near_store, stream.id))
        streams.start(near_store, stream.id)
        assert streams.is_live(near_store, stream.id)
        warm(near_store, lambda: streams.is_live(near_store, stream.id))
        with near_store.transaction() as tx:
            streams.stop(tx, stream.id)
        assert not streams.is_live(near_store, stream.id)
    warm(near_store, lambda: sessions.validate(near_store, token))
    sessions.revoke(near_store, token)
    with pytest.raises(AuthenticationFailed):
        sessions.validate(near_store, token)


def test_its_own_writes_are_seen_at_once_while_redis_is_frozen(
    near_store: Store, own_valkey: OwnValkey
) -> None:
    stream = make_stream(near_store)
    warm(near_store, lambda: streams.is_live(near_store, stream.id))
    own_valkey.freeze()
    streams.start(near_store, stream.id)
    assert streams.is_live(near_store, stream.id)
    own_valkey.thaw()
    until(lambda: near_store.health().redis.breaker == "closed", "Redis to be back")
    assert streams.is_live(near_store, stream.id)


def test_that_there_is_no_such_thing_is_kept_too(near_store: Store) -> None:
    def ask() -> None:
        with pytest.raises(NotFound):
            streams.is_live(near_store, 4_000_000)

    warm(near_store, ask)


def test_a_session_ends_by_itself_in_time(near_store: Store) -> None:
    token = sessions.create(near_store, make_user(near_store).id, lifetime=timedelta(seconds=1)).token
    warm(near_store, lambda: sessions.validate(near_store, token))

    def is_refused() -> bool:
        try:
            sessions.validate(near_store, token)
        except AuthenticationFailed:
            return True
        return False

    until(is_refused, "the session to end")


def test_health_tells_why_there_is_none(make_store: MakeStore) -> None:
    plain, near_store = make_store(), make_store(near_cache_entries=10)
    plain.redis.execute_command("ACL", "SETUSER", "default", "-client|tracking")  # type: ignore[no-untyped-call]  # redis-py has no types here
    stream = make_stream(near_store)
    for _ in range(2):
        assert not streams.is_live(near_store, stream.id)
    until(lambda: near_store.health().redis.near.state == "refused", "the refusal to be told")
    health = near_store.health()
    assert health.status == "degraded"
    assert [reason for reason in health.reasons if reason.startswith("near-cache: ") and "NoPerm" in reason]
    assert plain.health().status == "ok"


def test_a_closed_store_serves_nothing(near_store: Store) -> None:
    stream = make_stream(near_store)
    warm(near_store, lambda: streams.is_live(near_store, stream.id))
    near_store.close()
    with pytest.raises(StoreClosed):
        streams.is_live(near_store, stream.id)
