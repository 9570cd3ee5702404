"""Which changes are noted in cache_invalidations, by whatever statement, and which are not."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from rootstream_store import migrations
from rootstream_store.cache import keys
from rootstream_store.repositories import sessions, stream_sessions, streams, users
from rootstream_store.secret import Secret
from rootstream_store.store import Store
from rootstream_store.transaction import Transaction

from ..factories import make_stream, make_user
from .outbox import behind, noted


@pytest.fixture
def plain(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A store without Redis: nobody sweeps."""
    monkeypatch.delenv("REDIS_URL", raising=False)
    with Store.open(database_url) as opened:
        yield opened


def session_key(token: Secret) -> str:
    return keys.session(hashlib.sha256(token.reveal().encode()).digest())


def stream_key(secret: Secret) -> str:
    return keys.stream_key(hashlib.sha256(secret.reveal().encode()).digest())


class TestSessions:
    @pytest.mark.parametrize(
        "change",
        [
            "is_active = FALSE",
            "expires_at = now() + interval '1 minute'",
            "user_agent = 'other'",
            "device_id = 'other'",
            "ip_address = '192.0.2.1'",
            "created_at = created_at - interval '1 s'",
            "last_activity = now(), is_active = FALSE",
            "token_hash = sha256('other')",
        ],
    )
    def test_a_change_of_what_validate_answers(self, plain: Store, database_url: str, change: str) -> None:
        made = sessions.create(plain, make_user(plain).id)
        sessions.create(plain, made.user_id)
        text = f"UPDATE sessions SET {change} WHERE token_hash = %s"  # noqa: S608  # the cases above
        assert behind(database_url, text, made.token_hash) == 1
        assert noted(database_url) == [session_key(made.token)]

    def test_a_touch_is_none_nor_a_change_that_changes_nothing(self, plain: Store, database_url: str) -> None:
        made = sessions.create(plain, make_user(plain).id)
        sessions.touch(plain, made.token)
        behind(database_url, "UPDATE sessions SET last_activity = now() + interval '1 s'")
        behind(database_url, "UPDATE sessions SET is_active = TRUE, user_agent = user_agent")
        behind(database_url, "UPDATE sessions SET is_active = FALSE WHERE FALSE")
        behind(database_url, "DELETE FROM sessions WHERE FALSE")
        assert noted(database_url) == []

    def test_what_was_over_already_need_not_be_told(self, plain: Store, database_url: str) -> None:
        user = make_user(plain)
        good, revoked = (sessions.create(plain, user.id) for _ in range(2))
        sessions.revoke(plain, revoked.token)
        behind(
            database_url,
            "INSERT INTO sessions (token_hash, user_id, created_at, expires_at)"
            " SELECT sha256(n::text::bytea), %s, now() - interval '1 day', now() - n * interval '1 s'"
            " FROM generate_series(1, 50) AS n",
            user.id,
        )
        assert noted(database_url) == [session_key(revoked.token)]
        assert sessions.delete_expired(plain) == 50
        assert noted(database_url) == []
        assert behind(database_url, "DELETE FROM sessions") == 2
        assert noted(database_url) == [session_key(good.token)]


class TestUsers:
    def test_any_change_and_what_changes_nothing(self, plain: Store, database_url: str) -> None:
        user = make_user(plain)
        sessions.create(plain, user.id)
        for call in (
            lambda: users.update_profile(plain, user.id, display_name="Ann"),
            lambda: users.set_email(plain, user.id, "ann@example.com"),
            lambda: users.verify(plain, user.id),
            lambda: users.record_login(plain, user.id),
            lambda: behind(database_url, "UPDATE users SET password_hash = password_hash || 'a'"),
        ):
            call()
            assert noted(database_url) == [keys.user(user.id)]
        users.update_profile(plain, user.id, display_name="Ann")
        assert noted(database_url) == []

    @pytest.mark.parametrize("is_active", [True, False])
    def test_being_active_decides_on_the_sessions(
        self, plain: Store, database_url: str, is_active: bool
    ) -> None:
        user, other = make_user(plain), make_user(plain)
        made = [sessions.create(plain, user.id) for _ in range(3)]
        sessions.create(plain, other.id)
        behind(database_url, "UPDATE users SET is_active = %s WHERE id = %s", not is_active, user.id)
        noted(database_url)
        behind(database_url, "UPDATE users SET is_active = %s WHERE id = %s", is_active, user.id)
        expected = [keys.user(user.id), *(session_key(each.token) for each in made)]
        assert noted(database_url) == sorted(expected)

    def test_a_delete_takes_all_with_it(self, plain: Store, database_url: str) -> None:
        user = make_user(plain)
        session = sessions.create(plain, user.id)
        stream = make_stream(plain, user.id)
        noted(database_url)
        behind(database_url, "DELETE FROM users WHERE id = %s", user.id)
        assert noted(database_url) == sorted(
            [
                keys.user(user.id),
                session_key(session.token),
                keys.live(stream.id),
                keys.on_air(stream.id),
                keys.stream(stream.id),
                stream_key(stream.stream_key),
            ]
        )


class TestStreams:
    def test_what_describes_a_stream(self, plain: Store, database_url: str) -> None:
        stream = make_stream(plain)
        streams.update(plain, stream.id, name="other")
        assert noted(database_url) == [keys.stream(stream.id)]
        on_and_off_air = sorted([keys.live(stream.id), keys.stream(stream.id), keys.on_air(stream.id)])
        streams.start(plain, stream.id)
        assert noted(database_url) == on_and_off_air
        streams.stop(plain, stream.id)
        assert noted(database_url) == on_and_off_air

    def test_the_old_key_is_told_by_its_digest(self, plain: Store, database_url: str) -> None:
        stream = make_stream(plain)
        streams.rotate_key(plain, stream.id)
        told = noted(database_url)
        assert told == sorted([keys.stream(stream.id), stream_key(stream.stream_key)])
        assert stream.stream_key.reveal() not in "".join(told)

    def test_reports_of_an_encoder_are_none(self, plain: Store, database_url: str) -> None:
        stream = make_stream(plain)
        streams.start(plain, stream.id)
        noted(database_url)
        streams.update_stats(plain, stream.id, viewer_count=7, bitrate_kbps=6000, bytes_sent=1000)
        streams.update_stats(plain, stream.id, resolution="1920x1080", fps=30.0, codec="av1")
        stream_sessions.add_viewers(plain, stream.id, joined=3, left=1)
        stream_sessions.add_bytes(plain, stream.id, 10)
        assert noted(database_url) == []

    def test_another_id(self, plain: Store, database_url: str) -> None:
        stream = make_stream(plain)
        behind(database_url, "UPDATE streams SET id = 77 WHERE id = %s", stream.id)
        assert noted(database_url) == sorted(
            [keys.live(stream.id), keys.stream(stream.id), stream_key(stream.stream_key)]
        )


def test_a_truncate_tells_of_all(plain: Store, database_url: str) -> None:
    stream = make_stream(plain)
    session = sessions.create(plain, stream.user_id)
    behind(database_url, "TRUNCATE users CASCADE")
    assert noted(database_url) == sorted(
        [
            keys.user(stream.user_id),
            session_key(session.token),
            keys.live(stream.id),
            keys.on_air(stream.id),
            keys.stream(stream.id),
            stream_key(stream.stream_key),
        ]
    )


def test_a_rollback_leaves_nothing(plain: Store, database_url: str) -> None:
    session = sessions.create(plain, make_user(plain).id)

    def fail(tx: Transaction) -> None:
        sessions.revoke(tx, session.token)
        users.deactivate(tx, session.user_id)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        plain.transact(fail)
    assert noted(database_url) == []


def test_many_rows_at_once(plain: Store, database_url: str) -> None:
    user = make_user(plain)
    behind(
        database_url,
        "INSERT INTO sessions (token_hash, user_id, expires_at)"
        " SELECT sha256(n::text::bytea), %s, now() + interval '1 day' FROM generate_series(1, 10000) AS n",
        user.id,
    )
    assert sessions.revoke_all(plain, user.id) == 10_000
    assert len(set(noted(database_url))) == 10_000
    behind(database_url, "UPDATE sessions SET is_active = TRUE")
    noted(database_url)
    behind(database_url, "DELETE FROM sessions")
    assert len(set(noted(database_url))) == 10_000


@pytest.mark.parametrize("schema", ["streaming", 'Odd "name"'])
def test_in_another_schema_whatever_the_search_path(empty_database_url: str, schema: str) -> None:
    """Somebody who writes with the schema in the text must not be stopped by a trigger that does not find its
    table, nor be able to put another table in its place."""
    quoted = '"' + schema.replace('"', '""') + '"'
    behind(empty_database_url, f"CREATE SCHEMA {quoted}")
    path = quoted.replace("\\", "\\\\").replace(" ", "\\ ")
    migrations.apply(make_conninfo(empty_database_url, options=f"-c search_path={path}"))
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute("CREATE TEMPORARY TABLE cache_invalidations (key text)")
        connection.execute("CREATE TEMPORARY TABLE sessions (token_hash bytea)")
        text = f"""
            INSERT INTO {quoted}.users (username, email, password_hash)
            VALUES ('ann', 'ann@example.com', '$argon2id$v=19$m=8,t=1,p=1$a$b')
        """  # noqa: S608  # the two names above
        connection.execute(text.encode())
        for change in ("is_active = FALSE", "is_active = TRUE"):
            connection.execute(f"UPDATE {quoted}.users SET {change}".encode())  # noqa: S608  # the same
        connection.execute(f"DELETE FROM {quoted}.users".encode())  # noqa: S608  # the same
        rows = connection.execute(f"SELECT key FROM {quoted}.cache_invalidations".encode()).fetchall()  # noqa: S608  # the same
        assert rows == [("user:1",)] * 3
        assert connection.execute("SELECT count(*) FROM pg_temp.cache_invalidations").fetchall() == [(0,)]
