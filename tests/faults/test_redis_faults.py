"""Repositories while Redis is frozen, killed, or was never there: writes are done, no call waits for long.

The former C++ layer waited for a frozen server for ever, and all its threads with it.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import psycopg
import pytest

from rootstream_store import Store, billing, events, records, sessions, stream_sessions, streams, users
from rootstream_store.cache import keys
from rootstream_store.errors import AuthenticationFailed, Conflict, NotFound
from rootstream_store.secret import Secret

from ..cache.conftest import OwnValkey, until
from ..factories import PASSWORD, make_stream, make_user
from ..together import blocked, together

LONGEST = 0.6
"""Seconds that a call may take while Redis is down."""


class Scene(msgspec.Struct):
    """Rows that a call is made on, one live and one idle stream among them, their answers cached."""

    store: Store
    user: records.User
    token: Secret
    live: int
    idle: int


Call = Callable[[Scene], object]


@pytest.fixture(autouse=True, scope="module")
def _cheap_passwords() -> Iterator[None]:
    users.configure_passwords(time_cost=1, memory_cost=8, parallelism=1)
    yield
    users.configure_passwords()


@pytest.fixture
def valkey() -> Iterator[OwnValkey]:
    """A server of the test's own, which it may break."""
    # A socket path has 107 bytes at most; pytest's own directories can be longer.
    directory = Path(tempfile.mkdtemp(prefix="rsf-"))
    server = OwnValkey(directory)
    try:
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(directory, ignore_errors=True)


def make_scene(store: Store) -> Scene:
    user = make_user(store)
    scene = Scene(
        store,
        user,
        sessions.create(store, user.id).token,
        make_stream(store, user.id).id,
        make_stream(store, user.id).id,
    )
    streams.start(store, scene.live)
    streams.is_live(store, scene.live)
    streams.is_live(store, scene.idle)
    sessions.validate(store, scene.token)
    return scene


def is_good(scene: Scene) -> bool:
    try:
        return sessions.validate(scene.store, scene.token).user_id == scene.user.id
    except AuthenticationFailed:
        return False


def is_gone(get: Callable[..., object], *key: object) -> bool:
    try:
        get(*key)
    except NotFound:
        return True
    return False


def in_a_transaction(scene: Scene) -> None:
    with scene.store.transaction() as tx:
        streams.stop(tx, scene.live)
        events.append(tx, "stream", scene.live, "StreamStopped", {})
        users.deactivate(tx, scene.user.id)


# What is called, and what PostgreSQL must say afterwards. Each has an outage of its own: the first call in
# one is the one that waits.
CALLS: dict[str, tuple[Call, Callable[[Scene], bool]]] = {
    "sessions.create": (
        lambda s: sessions.create(s.store, s.user.id),
        lambda s: len(sessions.list_active(s.store, s.user.id)) == 2,
    ),
    "sessions.validate": (lambda s: sessions.validate(s.store, s.token), is_good),
    "sessions.touch": (lambda s: sessions.touch(s.store, s.token), is_good),
    "sessions.revoke": (lambda s: sessions.revoke(s.store, s.token), lambda s: not is_good(s)),
    "sessions.revoke_all": (lambda s: sessions.revoke_all(s.store, s.user.id), lambda s: not is_good(s)),
    "users.deactivate": (lambda s: users.deactivate(s.store, s.user.id), lambda s: not is_good(s)),
    "users.set_password": (
        lambda s: users.set_password(s.store, s.user.id, "another word"),
        lambda s: not is_good(s),
    ),
    "users.delete": (
        lambda s: users.delete(s.store, s.user.id),
        lambda s: not is_good(s) and is_gone(users.get, s.store, s.user.id),
    ),
    "users.authenticate": (
        lambda s: users.authenticate(s.store, login=s.user.username, password=PASSWORD),
        lambda s: users.get(s.store, s.user.id).last_login_at is not None,
    ),
    "streams.create": (
        lambda s: streams.create(s.store, s.user.id, name="new"),
        lambda s: len(streams.list_by_user(s.store, s.user.id)) == 3,
    ),
    "streams.start": (
        lambda s: streams.start(s.store, s.idle),
        lambda s: streams.get(s.store, s.idle).is_live and streams.is_live(s.store, s.idle),
    ),
    "streams.stop": (
        lambda s: streams.stop(s.store, s.live),
        lambda s: not streams.get(s.store, s.live).is_live and not streams.is_live(s.store, s.live),
    ),
    "streams.update_stats": (
        lambda s: streams.update_stats(s.store, s.live, viewer_count=7),
        lambda s: streams.get_viewer_count(s.store, s.live) == 7,
    ),
    "streams.is_live": (
        lambda s: streams.is_live(s.store, s.live),
        lambda s: streams.is_live(s.store, s.live),
    ),
    "streams.delete": (
        lambda s: streams.delete(s.store, s.live),
        lambda s: is_gone(streams.get, s.store, s.live) and is_gone(streams.is_live, s.store, s.live),
    ),
    "stream_sessions.add_viewers": (
        lambda s: stream_sessions.add_viewers(s.store, s.live, joined=3),
        lambda s: streams.get_viewer_count(s.store, s.live) == 3,
    ),
    "stream_sessions.end": (
        lambda s: stream_sessions.end(s.store, s.live, stream_sessions.get_current(s.store, s.live).id),
        lambda s: not streams.is_live(s.store, s.live),
    ),
    "events.append": (
        lambda s: events.append(s.store, "stream", s.live, "Seen", {}),
        lambda s: events.get_version(s.store, "stream", s.live) == 1,
    ),
    "billing.open": (
        lambda s: billing.open(s.store, s.user.id),
        lambda s: billing.get(s.store, s.user.id).subscription_tier == "free",
    ),
    "a transaction": (
        in_a_transaction,
        lambda s: not is_good(s) and not streams.is_live(s.store, s.live),
    ),
}


def timed(call: Call, scene: Scene) -> float:
    started = time.monotonic()
    call(scene)
    return time.monotonic() - started


CASES = [(name, fault) for name in CALLS for fault in ("frozen", "killed")]
# A new connection is accepted by the kernel of a frozen server, and then hangs: the same for all calls.
CASES += [
    (name, "frozen, unconnected") for name in ("sessions.validate", "users.deactivate", "streams.start")
]


@pytest.mark.parametrize(("name", "fault"), CASES)
def test_a_call_is_done_and_waits_for_no_longer_than_said(
    database_url: str, valkey: OwnValkey, name: str, fault: str
) -> None:
    call, holds = CALLS[name]
    times = []
    # A busy machine may hold one try up; a wait without bound holds up all of them.
    for _ in range(3):
        with Store.open(database_url, valkey.url) as store:
            scene = make_scene(store)
            if fault == "frozen, unconnected":
                store.redis.connection_pool.disconnect()
            if fault == "killed":
                valkey.kill()
            else:
                valkey.freeze()
            times.append(timed(call, scene))
            assert holds(scene), f"{name} reported success and did nothing"
            until(lambda: store._pool.in_use() == 0, "the pool to be at rest")
        valkey.kill()
        valkey.start()
        if times[-1] < LONGEST:
            break
    assert min(times) < LONGEST, times


def test_after_the_first_call_of_an_outage_nobody_waits(database_url: str, valkey: OwnValkey) -> None:
    with Store.open(database_url, valkey.url, redis_retry_after=60) as store:
        scene = make_scene(store)
        valkey.freeze()
        sessions.validate(store, scene.token)
        # Each would wait 0.25 s by itself.
        assert min(timed(lambda s: sessions.validate(s.store, s.token), scene) for _ in range(20)) < 0.05


def test_a_write_that_waits_for_another_does_not_wait_for_redis_a_third_time(
    database_url: str, valkey: OwnValkey
) -> None:
    """Before its statement, and for the removal after it; its message, in vain as well, goes without."""
    times = []
    for _ in range(3):
        with Store.open(database_url, valkey.url, redis_retry_after=0.3) as store:
            scene = make_scene(store)
            valkey.freeze()
            with ThreadPoolExecutor(1) as pool, psycopg.connect(database_url, autocommit=True) as other:
                with store.transaction() as tx:
                    stream_sessions.add_bytes(tx, scene.live, 1)
                    stopped = pool.submit(streams.stop, store, scene.live)
                    blocked(other)
                    time.sleep(0.4)  # longer than the breaker stays open
                started = time.monotonic()
                stopped.result(10)
            times.append(time.monotonic() - started)
        valkey.kill()
        valkey.start()
    assert min(times) < 0.4, times


def test_many_threads_wait_beside_each_other_and_not_one_after_the_other(
    database_url: str, valkey: OwnValkey
) -> None:
    times = []
    for _ in range(3):
        with Store.open(database_url, valkey.url, pool_size=8, redis_pool_size=4) as store:
            scene = make_scene(store)
            valkey.freeze()
            started = time.monotonic()
            found = together([lambda: sessions.validate(store, scene.token)] * 16)  # noqa: B023  # called at once
            times.append(time.monotonic() - started)
            assert {session.user_id for session in found if not isinstance(session, Exception)} == {
                scene.user.id
            }
            assert not [error for error in found if isinstance(error, Exception)]
        valkey.thaw()
        if times[-1] < LONGEST:
            break
    assert min(times) < LONGEST, times


def freeze_unheard(scene: Scene, valkey: OwnValkey) -> None:
    """Freezes the server, and has the store know it: what a frozen server was sent is done when it goes
    on."""
    valkey.freeze()
    sessions.validate(scene.store, scene.token)
    assert scene.store.health().redis.breaker != "closed"


@pytest.mark.parametrize("end", [users.deactivate, users.delete, sessions.revoke_all])
def test_a_session_ended_while_redis_is_frozen_is_refused_when_it_goes_on(
    database_url: str, valkey: OwnValkey, end: Callable[[Store, int], object]
) -> None:
    """The frozen server still has the session, and answers again with it in memory."""
    with Store.open(database_url, valkey.url, redis_retry_after=0.5) as store:
        scene = make_scene(store)
        freeze_unheard(scene, valkey)
        end(store, scene.user.id)
        assert not is_good(scene)
        valkey.thaw()
        deadline = time.monotonic() + 1.2
        while time.monotonic() < deadline:
            assert not is_good(scene)
        until(lambda: store.health().redis.pending_invalidations == 0, "the removals to be made up for")
        assert not is_good(scene)


def test_a_stop_while_redis_is_frozen_is_seen_when_it_goes_on(database_url: str, valkey: OwnValkey) -> None:
    with Store.open(database_url, valkey.url, redis_retry_after=0.5) as store:
        scene = make_scene(store)
        freeze_unheard(scene, valkey)
        streams.stop(store, scene.live)
        streams.start(store, scene.idle)
        valkey.thaw()
        deadline = time.monotonic() + 1.2
        while time.monotonic() < deadline:
            assert not streams.is_live(store, scene.live)
            assert streams.is_live(store, scene.idle)


def test_another_process_sees_the_end_soon_after(database_url: str, valkey: OwnValkey) -> None:
    """It reads what Redis still has until the process that ended the session can tell Redis."""
    with (
        Store.open(database_url, valkey.url, redis_retry_after=0.5) as store,
        Store.open(database_url, valkey.url, redis_retry_after=0.5) as other,
    ):
        scene = make_scene(store)
        sessions.validate(other, scene.token)
        freeze_unheard(scene, valkey)
        users.deactivate(store, scene.user.id)
        valkey.thaw()
        elsewhere = msgspec.structs.replace(scene, store=other)
        until(lambda: not is_good(elsewhere), "the other process to refuse the session")


def test_redis_that_was_never_there_is_told_and_used_once_it_comes(
    database_url: str, valkey: OwnValkey
) -> None:
    """The former C++ layer reported success, published nothing and said nothing of it."""
    valkey.kill()
    with Store.open(database_url, valkey.url, redis_retry_after=0.1) as store:
        stream = make_stream(store)
        streams.start(store, stream.id)
        health = store.health()
        assert health.status == "degraded"
        assert not health.redis.reachable
        assert health.redis.counters.lost_effects > 0
        assert [reason for reason in health.reasons if reason.startswith("Redis: ")]
        streams.stop(store, stream.id)

        valkey.start()
        until(lambda: store.health().redis.reachable, "the server to be found")
        with store.subscribe(keys.events(stream.id)) as messages:

            def heard() -> bool:
                streams.start(store, stream.id)
                message = messages.get(timeout=0.2)
                streams.stop(store, stream.id)
                return message is not None

            until(heard, "a start to be published")
        until(lambda: store.health().status == "ok", "the health to be good again")


def test_a_conflict_is_still_told_without_redis(database_url: str, valkey: OwnValkey) -> None:
    with Store.open(database_url, valkey.url) as store:
        scene = make_scene(store)
        valkey.kill()
        with pytest.raises(Conflict):
            streams.start(store, scene.live)
        with pytest.raises(Conflict):
            streams.stop(store, scene.idle)
