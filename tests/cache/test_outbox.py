"""The sweep: what is noted in cache_invalidations leaves Redis soon, whatever else is going on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from rootstream_store import _invalidations, maintenance
from rootstream_store.cli import main
from rootstream_store.errors import AuthenticationFailed, NotFound
from rootstream_store.repositories import sessions, streams, users
from rootstream_store.secret import Secret
from rootstream_store.store import Store

from ..factories import make_stream, make_user
from ..faults.proxy import Proxy
from ..waiting import until
from .conftest import OwnValkey
from .outbox import behind

MakeStore = Callable[..., Store]
BOUND = 1.0
"""Seconds in which a process that uses the cache has swept: 0.6 s, and some for a busy machine."""


@pytest.fixture
def make_store(database_url: str, own_valkey: OwnValkey) -> Iterator[MakeStore]:
    """Stores on a Redis that the test may break; closed at the end."""
    made: list[Store] = []

    def make(url: str = database_url, **settings: Any) -> Store:
        values = {"redis_url": own_valkey.url, "redis_retry_after": 0.2, **settings}
        made.append(Store.open(url, **values))
        return made[-1]

    yield make
    for store in made:
        store.close()


def is_good(store: Store, token: Secret) -> bool:
    try:
        sessions.validate(store, token)
    except AuthenticationFailed:
        return False
    return True


def waiting(store: Store) -> int:
    return behind(store.settings.database_url, "SELECT FROM cache_invalidations")


def cached_login(store: Store) -> Secret:
    """The token of a good session that Redis knows."""
    token = sessions.create(store, make_user(store).id).token
    sessions.validate(store, token)
    hits = store._cache.counters.hits
    sessions.validate(store, token)
    assert store._cache.counters.hits == hits + 1
    return token


def refused_within(seconds: float, stores: list[Store], token: Secret) -> None:
    """Refused by all of the stores within so many seconds, and never accepted again."""
    started = time.monotonic()
    until(lambda: not any(is_good(store, token) for store in stores), "the login to be refused", seconds)
    while time.monotonic() - started < seconds:
        assert not any(is_good(store, token) for store in stores)


def test_a_revocation_in_psql_is_known_soon(make_store: MakeStore, database_url: str) -> None:
    stores = [make_store(), make_store()]
    token = cached_login(stores[0])
    assert is_good(stores[1], token)
    behind(database_url, "UPDATE sessions SET is_active = FALSE")
    refused_within(BOUND, stores, token)
    until(lambda: waiting(stores[0]) == 0)


@pytest.mark.parametrize("statement", ["DELETE FROM users", "TRUNCATE users CASCADE"])
def test_what_goes_with_its_user(make_store: MakeStore, database_url: str, statement: str) -> None:
    store = make_store()
    token = cached_login(store)
    behind(database_url, statement)
    refused_within(BOUND, [store], token)


def test_users_and_streams_too(make_store: MakeStore, database_url: str) -> None:
    store = make_store()
    stream = make_stream(store)
    assert users.get(store, stream.user_id).display_name is None
    assert not streams.get_by_key(store, stream.stream_key).is_live
    assert not streams.is_live(store, stream.id)
    behind(database_url, "UPDATE users SET display_name = 'Ann'")
    behind(database_url, "UPDATE streams SET is_live = TRUE, started_at = now()")
    until(lambda: users.get(store, stream.user_id).display_name == "Ann", "", BOUND)
    until(lambda: streams.get_by_key(store, stream.stream_key).is_live, "", BOUND)
    until(lambda: streams.is_live(store, stream.id), "", BOUND)
    behind(database_url, "UPDATE streams SET stream_key = repeat('k', 43)")

    def is_refused() -> bool:
        try:
            streams.get_by_key(store, stream.stream_key)
        except NotFound:
            return True
        return False

    until(is_refused, "the old key to be refused", BOUND)


def test_a_process_that_begins_trusts_nothing_before_it_has_looked(
    make_store: MakeStore, database_url: str
) -> None:
    writer = make_store()
    token = cached_login(writer)
    writer.close()
    behind(database_url, "UPDATE sessions SET is_active = FALSE")
    assert not is_good(make_store(), token), "the first call of a new process"


def test_an_idle_process_looks_seldom_and_soon_when_it_is_used(
    make_store: MakeStore, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_invalidations, "IDLE_INTERVAL", 60.0)
    store = make_store()
    token = cached_login(store)
    until(lambda: store._invalidations.is_resting)
    behind(database_url, "UPDATE sessions SET is_active = FALSE")
    refused_within(BOUND, [store], token)


def test_an_idle_process_does_look(
    make_store: MakeStore, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_invalidations, "IDLE_INTERVAL", 0.7)
    store = make_store()
    cached_login(store)
    until(lambda: store._invalidations.is_resting)
    behind(database_url, "UPDATE sessions SET is_active = FALSE")
    until(lambda: waiting(store) == 0, "the idle process to sweep", 3)


def test_without_use_there_is_no_thread(make_store: MakeStore) -> None:
    store = make_store()
    sessions.revoke(store, sessions.create(store, make_user(store).id).token)
    assert store._invalidations._thread is None
    assert waiting(store) == 1
    assert store.sweep_invalidations() == 1
    assert waiting(store) == 0


def test_ten_thousand_at_once(make_store: MakeStore, database_url: str) -> None:
    store = make_store()
    token = cached_login(store)
    behind(
        database_url,
        "INSERT INTO sessions (token_hash, user_id, expires_at)"
        " SELECT sha256(n::text::bytea), min(id), now() + interval '1 day'"
        " FROM users, generate_series(1, 10000) AS n GROUP BY n",
    )
    behind(database_url, "DELETE FROM sessions")
    assert waiting(store) == 10_001
    refused_within(5, [store], token)
    until(lambda: waiting(store) == 0)


def test_two_sweepers_at_once_and_rows_that_somebody_holds(make_store: MakeStore, database_url: str) -> None:
    stores = [make_store(), make_store()]
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "INSERT INTO cache_invalidations (key) SELECT 'k' || n FROM generate_series(1, 5000) n"
        )
        connection.commit()
        stores[0].redis.set("k1", 1)
        connection.execute("SELECT FROM cache_invalidations WHERE key = 'k1' FOR UPDATE")
        started = time.monotonic()
        assert [store.sweep_invalidations() for store in stores] == [4999, 0]
        assert time.monotonic() - started < 5, "nobody waits for the one that is held"
        assert stores[0].redis.exists("k1") == 0
        assert waiting(stores[0]) == 1
    assert stores[1].sweep_invalidations() == 1
    assert waiting(stores[0]) == 0


def test_redis_frozen_while_sweeping(make_store: MakeStore, database_url: str, own_valkey: OwnValkey) -> None:
    store = make_store()
    token = cached_login(store)
    own_valkey.freeze()
    behind(database_url, "UPDATE sessions SET is_active = FALSE")
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        started = time.monotonic()
        assert not is_good(store, token), "PostgreSQL answers"
        assert time.monotonic() - started < 0.6
    assert waiting(store) == 1
    assert store._pool.in_use() == 0, "no connection is kept while Redis is waited for"
    own_valkey.thaw()
    # Redis is there again, with the old answer in it.
    refused_within(3, [store], token)
    until(lambda: waiting(store) == 0)


def test_postgres_gone_for_a_while(
    make_store: MakeStore,
    database_url: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_invalidations, "IDLE_INTERVAL", 0.2)
    caplog.set_level(logging.WARNING, "rootstream_store.cache")
    with Proxy(database_url) as proxy:
        store = make_store(proxy.database_url, pool_timeout=0.5, retry_deadline=0)
        token = cached_login(store)
        proxy.stop()
        until(lambda: "cannot be swept" in caplog.text)
        assert is_good(store, token), "what is cached is still served: nobody can have changed it"
        until(lambda: store._invalidations._is_failing)
        proxy.start()
        behind(database_url, "UPDATE sessions SET is_active = FALSE")
        until(lambda: not store._invalidations._is_failing)
        refused_within(BOUND, [store], token)
        assert caplog.text.count("cannot be swept") == 1
        store.close()


def test_a_process_in_use_looks_soon_after_postgres_is_back(make_store: MakeStore, database_url: str) -> None:
    with Proxy(database_url) as proxy:
        store = make_store(proxy.database_url, pool_timeout=0.5, retry_deadline=0)
        token = cached_login(store)
        proxy.stop()
        until(lambda: is_good(store, token) and store._invalidations._is_failing, "a look to fail")
        proxy.start()
        behind(database_url, "UPDATE sessions SET is_active = FALSE")
        refused_within(2.0, [store], token)
        store.close()


def test_an_older_schema_and_missing_rights_are_told_once(
    make_store: MakeStore,
    database_url: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_invalidations, "IDLE_INTERVAL", 0.05)
    behind(database_url, "DROP TABLE cache_invalidations CASCADE")
    for table in ("users", "sessions", "streams"):
        behind(database_url, f"ALTER TABLE {table} DISABLE TRIGGER USER")
    store = make_store()
    token = cached_login(store)
    sessions.revoke(store, token)
    assert not is_good(store, token)
    time.sleep(0.3)  # for looks that must tell nothing
    assert caplog.text.count("cannot be swept") == 1


def test_a_closed_store_sweeps_no_more(make_store: MakeStore, database_url: str) -> None:
    store = make_store()
    cached_login(store)
    thread = store._invalidations._thread
    assert thread is not None
    assert thread.is_alive()
    store.close()
    assert not thread.is_alive()
    behind(database_url, "UPDATE sessions SET is_active = FALSE")
    assert waiting(store) == 1


def test_closing_waits_for_no_frozen_redis(make_store: MakeStore, own_valkey: OwnValkey) -> None:
    store = make_store()
    cached_login(store)
    own_valkey.freeze()
    started = time.monotonic()
    store.close()
    assert time.monotonic() - started < 2


def test_maintenance_takes_what_waits_and_deletes_what_is_outdated(
    make_store: MakeStore, database_url: str, own_valkey: OwnValkey, capsys: pytest.CaptureFixture[str]
) -> None:
    store = make_store()
    behind(
        database_url,
        "INSERT INTO cache_invalidations (key, created_at)"
        " SELECT 'k' || n, now() - CASE WHEN n > 7 THEN interval '49 h' ELSE interval '47 h' END"
        " FROM generate_series(1, 10) AS n",
    )
    store.redis.set("k1", 1)
    assert maintenance.run(store).invalidations_deleted == 3
    assert store.redis.exists("k1") == 1
    assert main(["maintain", "--database-url", database_url, "--redis-url", own_valkey.url]) == 0
    assert "invalidations: 7 swept, 0 outdated" in capsys.readouterr().out
    assert store.redis.exists("k1") == 0


def test_health_tells_what_waits(make_store: MakeStore, database_url: str) -> None:
    store = make_store()
    assert (store.health().invalidations.waiting, store.health().invalidations.oldest_seconds) == (0, None)
    behind(
        database_url,
        "INSERT INTO cache_invalidations (key, created_at) VALUES ('k', now() - %s)",
        timedelta(minutes=2),
    )
    health = store.health()
    assert health.invalidations.waiting == 1
    assert health.invalidations.oldest_seconds is not None
    assert 120 <= health.invalidations.oldest_seconds < 180
    assert health.status == "degraded"
    assert [reason for reason in health.reasons if "1 wait for Redis" in reason] == list(health.reasons)
    store.sweep_invalidations()
    assert store.health().status == "ok"


def test_keys_of_somebody_elses_answers(make_store: MakeStore, database_url: str) -> None:
    """An application's own table, with a trigger of its own."""
    store = make_store()
    store.redis.set("room:7", "old")
    behind(database_url, "CREATE TABLE rooms (id bigint, name text)")
    behind(
        database_url,
        "CREATE FUNCTION invalidate_room() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO cache_invalidations (key) VALUES ('room:' || OLD.id); RETURN NULL; END $$",
    )
    behind(
        database_url,
        "CREATE TRIGGER rooms_invalidate AFTER UPDATE ON rooms FOR EACH ROW"
        " EXECUTE FUNCTION invalidate_room()",
    )
    behind(database_url, "INSERT INTO rooms VALUES (7, 'a')")
    behind(database_url, "UPDATE rooms SET name = 'b'")
    store.sweep_invalidations()
    assert store.redis.exists("room:7") == 0


def test_a_read_only_server_answers_from_the_first_call_on(make_store: MakeStore, database_url: str) -> None:
    primary = make_store()
    token = cached_login(primary)
    primary.close()
    standby = make_store(make_conninfo(database_url, options="-c default_transaction_read_only=on"))
    behind(database_url, "UPDATE sessions SET is_active = FALSE")
    assert not is_good(standby, token)
    # It is nothing to log, and no reason to look seldom.
    assert standby.sweep_invalidations() == 0
    assert not standby._invalidations._is_failing
    primary = make_store()
    assert waiting(primary) == 1
    assert primary.sweep_invalidations() == 1


def test_a_call_does_not_sweep_what_an_outage_has_left(make_store: MakeStore, database_url: str) -> None:
    store = make_store()
    user = make_user(store)
    behind(
        database_url,
        "INSERT INTO cache_invalidations (key) SELECT 'user:' || n FROM generate_series(100001, 300000) AS n",
    )
    assert users.get(store, user.id) == user
    assert waiting(store) > 0
    assert not store._invalidations.is_ready
    until(lambda: store._invalidations.is_ready, "the thread to sweep the rest")
    assert waiting(store) == 0


def test_a_connection_lost_before_the_first_look(make_store: MakeStore, database_url: str) -> None:
    store = make_store()
    user = make_user(store)
    behind(
        database_url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    assert users.get(store, user.id) == user
