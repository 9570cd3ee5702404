"""Login sessions: tokens, what is cached of them, and that nothing ended is ever accepted again."""

from __future__ import annotations

import hashlib
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_interface
from typing import Any

import msgspec
import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rootstream_store.cache._entry import STAMP_SIZE
from rootstream_store.db import CachedQuery
from rootstream_store.errors import AuthenticationFailed, InvalidInput, NotFound, PermissionDenied
from rootstream_store.queries import Query
from rootstream_store.records import Session
from rootstream_store.repositories import sessions, users
from rootstream_store.secret import Secret
from rootstream_store.store import Store

from .factories import make_user
from .together import blocked, together
from .undo import rolled_back

NOBODY = 2**40


@pytest.fixture(autouse=True)
def _cheap_passwords() -> Iterator[None]:
    users.configure_passwords(time_cost=1, memory_cost=8, parallelism=1)
    yield
    users.configure_passwords()


def digest(token: Secret) -> bytes:
    return hashlib.sha256(token.reveal().encode()).digest()


def key_of(token: Secret) -> str:
    return f"session:{digest(token).hex()}"


def behind(store: Store, statement: str, *params: object) -> None:
    """Changes the tables past the library, which so cannot know that what it cached is no longer true."""
    with psycopg.connect(store.settings.database_url) as connection:
        connection.execute(statement.encode(), params)


def expire(store: Store, token: Secret) -> None:
    behind(
        store,
        "UPDATE sessions SET created_at = now() - interval '2 h', expires_at = now() - interval '1 us'"
        " WHERE token_hash = %s",
        digest(token),
    )


def add_expired(store: Store, user_id: int, count: int) -> None:
    behind(
        store,
        "INSERT INTO sessions (token_hash, user_id, created_at, expires_at)"
        " SELECT sha256(n::text::bytea), %s, now() - interval '2 h', now() - n * interval '1 s'"
        " FROM generate_series(1, %s) AS n",
        user_id,
        count,
    )


def is_good(store: Store, token: Secret) -> bool:
    try:
        sessions.validate(store, token)
    except AuthenticationFailed:
        return False
    return True


@contextmanager
def refused() -> Iterator[None]:
    with pytest.raises(AuthenticationFailed) as caught:
        yield
    assert str(caught.value) == "the token is not that of a good session"
    assert not caught.value.retryable


_ENDS = pytest.mark.parametrize(
    "end",
    [
        lambda store, user_id, token: sessions.revoke(store, token),
        lambda store, user_id, token: sessions.revoke_all(store, user_id),
        lambda store, user_id, token: users.set_password(store, user_id, "new password"),
        lambda store, user_id, token: users.deactivate(store, user_id),
        lambda store, user_id, token: users.delete(store, user_id),
    ],
    ids=["revoke", "revoke_all", "set_password", "deactivate", "delete"],
)
"""Everything that ends the sessions of a user."""


class TestCreate:
    def test_gives_the_token_once_and_stores_its_sha256(self, store: Store) -> None:
        user = make_user(store)
        made = sessions.create(store, user.id, device_id="phone", user_agent="curl/8", ip_address="10.1.2.3")
        text = made.token.reveal()
        assert made.token_hash == digest(made.token)
        assert (made.user_id, made.device_id, made.user_agent) == (user.id, "phone", "curl/8")
        assert (made.ip_address, made.is_active) == ("10.1.2.3", True)
        assert made.created_at == made.last_activity
        with psycopg.connect(store.settings.database_url) as connection:
            row = connection.execute("SELECT sessions::text FROM sessions").fetchone()
        assert row is not None
        assert text not in row[0]
        assert made.token_hash.hex() in row[0]

    def test_tokens_are_256_random_bits_that_do_not_show_themselves(self, store: Store) -> None:
        user = make_user(store)
        made = [sessions.create(store, user.id) for _ in range(20)]
        texts = {one.token.reveal() for one in made}
        assert len(texts) == 20
        # 43 characters of 6 bits; no bit of the first ten characters is the same in all of them.
        assert {len(text) for text in texts} == {43}
        assert all(len({text[at] for text in texts}) > 5 for at in range(10))
        assert made[0].token.reveal() not in f"{made[0]!r} {made[0].token}"

    @pytest.mark.parametrize(
        "lifetime", [timedelta(microseconds=1), timedelta(hours=24), timedelta(days=3650)]
    )
    def test_lives_as_long_as_said_by_the_clock_of_the_database(
        self, store: Store, lifetime: timedelta
    ) -> None:
        made = sessions.create(store, make_user(store).id, lifetime=lifetime)
        assert made.expires_at - made.created_at == lifetime

    def test_lives_for_24_hours_unless_said_otherwise(self, store: Store) -> None:
        made = sessions.create(store, make_user(store).id)
        assert made.expires_at - made.created_at == timedelta(hours=24)

    @pytest.mark.parametrize(
        "lifetime", [timedelta(0), timedelta(seconds=-1), timedelta.max, timedelta.min, 3600, None, "1 day"]
    )
    def test_a_lifetime_that_is_none(self, store: Store, lifetime: object) -> None:
        user = make_user(store)
        with pytest.raises(InvalidInput) as caught:
            sessions.create(store, user.id, lifetime=lifetime)  # type: ignore[call-overload]  # wrong on purpose
        assert caught.value.field == "lifetime"
        assert sessions.list_active(store, user.id) == []

    @pytest.mark.parametrize(
        ("given_address", "stored"),
        [
            (IPv4Address("192.0.2.7"), "192.0.2.7"),
            (IPv6Address("2001:db8::1"), "2001:db8::1"),
            ("2001:0DB8:0:0:0:0:0:1", "2001:db8::1"),
            ("::ffff:192.0.2.7", "::ffff:192.0.2.7"),
            (None, None),
        ],
    )
    def test_addresses(self, store: Store, given_address: Any, stored: str | None) -> None:
        made = sessions.create(store, make_user(store).id, ip_address=given_address)
        assert made.ip_address == stored
        assert sessions.validate(store, made.token).ip_address == stored
        assert sessions.validate(store, made.token).ip_address == stored, "from Redis"

    @pytest.mark.parametrize(
        "address",
        ["", "localhost", "10.0.0.256", "010.0.0.1", "10.0.0.1/8", "10.0.0.1:80", "fe80::1%eth0", 5,
        b"\n\0\0\1",  "10.0.0.1\0", ip_interface("10.0.0.1/8")],
    )  # fmt: skip
    def test_what_is_no_address(self, store: Store, address: Any) -> None:
        with pytest.raises(InvalidInput) as caught:
            sessions.create(store, make_user(store).id, ip_address=address)
        assert (caught.value.field, caught.value.value) == ("ip_address", address)

    @pytest.mark.parametrize(("field", "length"), [("device_id", 255), ("user_agent", 1024)])
    def test_texts_have_a_longest_length(self, store: Store, field: str, length: int) -> None:
        user = make_user(store)
        longest: dict[str, Any] = {field: "ü" * length}
        assert getattr(sessions.create(store, user.id, **longest), field) == "ü" * length
        with pytest.raises(InvalidInput) as caught:
            sessions.create(store, user.id, **(longest | {field: "ü" * (length + 1)}))
        assert (caught.value.field, caught.value.constraint) == (field, f"sessions_{field}_length")
        assert caught.value.query == "sql/sessions/create.sql"

    def test_of_a_user_who_is_not_there(self, store: Store) -> None:
        with pytest.raises(NotFound) as caught:
            sessions.create(store, NOBODY)
        assert (caught.value.entity, caught.value.key) == ("user", {"user_id": NOBODY})

    def test_of_an_inactive_user(self, store: Store) -> None:
        user = make_user(store)
        users.deactivate(store, user.id)
        with pytest.raises(PermissionDenied, match="inactive") as caught:
            sessions.create(store, user.id)
        assert not caught.value.retryable

    def test_in_a_transaction_that_rolls_back(self, store: Store) -> None:
        user = make_user(store)
        with rolled_back(store) as tx:
            token = sessions.create(tx, user.id).token
            assert sessions.validate(tx, token).user_id == user.id
        with refused():
            sessions.validate(store, token)


class TestValidate:
    def test_the_second_answer_comes_from_redis_and_is_the_same(self, store: Store) -> None:
        made = sessions.create(store, make_user(store).id, device_id="phone", ip_address="10.1.2.3")
        store.sweep_invalidations()  # now, and not after the answer is cached
        first = sessions.validate(store, made.token)
        assert type(first) is Session
        assert all(getattr(first, name) == getattr(made, name) for name in Session.__struct_fields__)
        behind(store, "UPDATE sessions SET device_id = 'changed behind its back'")
        assert sessions.validate(store, made.token.reveal()) == first
        # A day, less than 10 % more or less so that not all expire together.
        assert 0.8 * 86400 < store.redis.ttl(key_of(made.token)) < 1.2 * 86400

    def test_is_never_cached_for_longer_than_it_lives(self, store: Store) -> None:
        token = sessions.create(store, make_user(store).id, lifetime=timedelta(seconds=100)).token
        store.sweep_invalidations()
        sessions.validate(store, token)
        assert 0 < store.redis.ttl(key_of(token)) <= 110

    def test_an_expired_one_is_refused_although_still_in_redis(self, store: Store) -> None:
        token = sessions.create(store, make_user(store).id).token
        session = sessions.validate(store, token)
        entry: Any = store.redis.get(key_of(token))
        assert entry[1 + STAMP_SIZE :] == msgspec.json.encode(session)
        expire(store, token)
        old = msgspec.structs.replace(session, expires_at=datetime.now(UTC) - timedelta(microseconds=1))
        store.redis.set(key_of(token), entry[:1] + msgspec.json.encode(old))
        with refused():
            sessions.validate(store, token)

    def test_a_wrong_clock_of_ours_refuses_nobody(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = sessions.create(store, make_user(store).id)
        sessions.validate(store, made.token)

        class Fast(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> Any:
                return datetime.now(tz) + timedelta(days=365)

        monkeypatch.setattr(sessions, "datetime", Fast)
        assert sessions.validate(store, made.token).token_hash == made.token_hash

    def test_an_expired_one(self, store: Store) -> None:
        token = sessions.create(store, make_user(store).id).token
        expire(store, token)
        for call in (sessions.validate, sessions.touch):
            with refused():
                call(store, token)

    def test_a_user_whom_somebody_made_inactive_by_hand(self, store: Store) -> None:
        token = sessions.create(store, make_user(store).id).token
        behind(store, "UPDATE users SET is_active = FALSE")
        for call in (sessions.validate, sessions.touch):
            with refused():
                call(store, token)

    @pytest.mark.parametrize(
        "token",
        ["", "x", "\0", "lone\ud800", "x' OR '1'='1", "🗝️" * 1000, Secret("unknown"), Secret.generate()],
    )
    def test_any_other_text_is_merely_unknown(self, store: Store, token: str | Secret) -> None:
        sessions.create(store, make_user(store).id)
        for call in (sessions.validate, sessions.touch):
            with refused():
                call(store, token)
        with pytest.raises(NotFound):
            sessions.revoke(store, token)

    def test_a_token_with_something_behind_a_nul_is_another_token(self, store: Store) -> None:
        token = sessions.create(store, make_user(store).id).token
        with refused():
            sessions.validate(store, token.reveal() + "\0")

    @pytest.mark.parametrize("token", [None, 5, b"bytes of a token"])
    def test_what_is_no_text_is_not_shown(self, store: Store, token: Any) -> None:
        for call in (sessions.validate, sessions.touch, sessions.revoke):
            with pytest.raises(InvalidInput) as caught:
                call(store, token)
            assert (caught.value.field, caught.value.value) == ("token", None)

    def test_no_error_shows_a_token(self, store: Store) -> None:
        token = Secret.generate()
        calls: list[Callable[..., object]] = [sessions.validate, sessions.touch, sessions.revoke]
        for call in calls:
            with pytest.raises((AuthenticationFailed, NotFound)) as caught:
                call(store, token)
            text = "".join(traceback.format_exception(caught.value)) + repr(vars(caught.value))
            assert token.reveal() not in text
            assert digest(token).hex() not in text
            assert repr(digest(token)) not in text

    def test_in_a_transaction_the_database_answers(self, store: Store) -> None:
        token = sessions.create(store, make_user(store).id).token
        sessions.validate(store, token)
        behind(store, "UPDATE sessions SET is_active = FALSE")
        assert is_good(store, token), "cached"
        with store.transaction() as tx, refused():
            sessions.validate(tx, token)


class TestTouch:
    def test_moves_last_activity(self, store: Store) -> None:
        made = sessions.create(store, make_user(store).id)
        touched = sessions.touch(store, made.token)
        assert touched.last_activity > made.last_activity
        assert touched.expires_at == made.expires_at
        assert sessions.list_active(store, made.user_id) == [touched]

    def test_never_moves_it_back(self, store: Store) -> None:
        made = sessions.create(store, make_user(store).id)
        with store.transaction() as older:
            older.one(users._GET, user_id=made.user_id)
            touched = sessions.touch(store, made.token)
            assert sessions.touch(older, made.token).last_activity == touched.last_activity

    def test_keeps_what_is_cached(self, store: Store) -> None:
        token = sessions.create(store, make_user(store).id).token
        sessions.validate(store, token)
        sessions.touch(store, token)
        assert store.redis.exists(key_of(token))


class TestRevoke:
    def test_by_its_token(self, store: Store) -> None:
        user = make_user(store)
        token, other = (sessions.create(store, user.id).token for _ in range(2))
        assert is_good(store, token)
        assert is_good(store, other)
        sessions.revoke(store, token)
        with refused():
            sessions.validate(store, token)
        with refused():
            sessions.touch(store, token)
        assert is_good(store, other)

    def test_twice_is_told(self, store: Store) -> None:
        token = sessions.create(store, make_user(store).id).token
        sessions.revoke(store, token)
        with pytest.raises(NotFound) as caught:
            sessions.revoke(store, token)
        assert (caught.value.entity, caught.value.query) == ("session", "sql/sessions/revoke.sql")

    def test_one_on_another_device(self, store: Store) -> None:
        user = make_user(store)
        here = sessions.create(store, user.id, device_id="here").token
        lost = sessions.create(store, user.id, device_id="lost phone").token
        assert is_good(store, lost)
        found = next(one for one in sessions.list_active(store, user.id) if one.device_id == "lost phone")
        sessions.revoke_hash(store, found.token_hash)
        assert not is_good(store, lost)
        assert is_good(store, here)
        with pytest.raises(NotFound):
            sessions.revoke_hash(store, found.token_hash)

    @pytest.mark.parametrize("token_hash", ["00" * 32, None, 5])
    def test_a_hash_that_is_none(self, store: Store, token_hash: Any) -> None:
        with pytest.raises((InvalidInput, NotFound)) as caught:
            sessions.revoke_hash(store, token_hash)
        assert getattr(caught.value, "field", "token_hash") == "token_hash"

    def test_all_or_all_but_one(self, store: Store) -> None:
        user, other = make_user(store), make_user(store)
        mine = [sessions.create(store, user.id).token for _ in range(3)]
        theirs = sessions.create(store, other.id).token
        for token in (*mine, theirs):
            assert is_good(store, token)
        assert sessions.revoke_all(store, user.id, except_token=mine[1]) == 2
        assert [is_good(store, token) for token in mine] == [False, True, False]
        assert sessions.revoke_all(store, user.id) == 1
        assert sessions.revoke_all(store, user.id) == 0
        assert sessions.revoke_all(store, NOBODY) == 0
        assert [is_good(store, token) for token in (*mine, theirs)] == [False, False, False, True]
        with pytest.raises(InvalidInput, match="except_token"):
            sessions.revoke_all(store, user.id, except_token=5)  # type: ignore[call-overload]  # wrong on purpose

    def test_of_many_at_once_one_ends_it(self, store: Store) -> None:
        token = sessions.create(store, make_user(store).id).token
        results = together([lambda: sessions.revoke(store, token)] * 6)
        assert sorted(type(result).__name__ for result in results) == ["NoneType"] + ["NotFound"] * 5

    @_ENDS
    def test_one_that_ended_is_never_accepted_again_however_it_is_raced(
        self, store: Store, end: Callable[[Store, int, Secret], object]
    ) -> None:
        """Readers fill the cache without a pause while the session ends: after that nobody may be let in."""
        for _ in range(12):
            user = make_user(store)
            race = _Race(store, sessions.create(store, user.id).token)
            with ThreadPoolExecutor(3) as pool:
                readers = [pool.submit(race.read) for _ in range(3)]
                race.begun.wait(10)
                end(store, user.id, race.token)
                race.ended.set()
                assert [reader.result(30) for reader in readers] == [0, 0, 0]
            assert not is_good(store, race.token)

    def test_in_a_transaction_that_rolls_back(self, store: Store) -> None:
        token = sessions.create(store, make_user(store).id).token
        assert is_good(store, token)
        with rolled_back(store) as tx:
            sessions.revoke(tx, token)
            with refused():
                sessions.validate(tx, token)
            assert is_good(store, token), "nothing is told before the commit"
        assert is_good(store, token)

    def test_in_a_transaction_that_commits(self, store: Store) -> None:
        user = make_user(store)
        token = sessions.create(store, user.id).token
        assert is_good(store, token)
        with store.transaction() as tx:
            assert sessions.revoke_all(tx, user.id) == 1
        assert not is_good(store, token)

    @_ENDS
    def test_one_that_ended_is_not_accepted_when_the_process_dies_right_after_the_commit(
        self,
        store: Store,
        end: Callable[[Store, int, Secret], object],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        user = make_user(store)
        token = sessions.create(store, user.id).token
        assert is_good(store, token)
        with monkeypatch.context() as dying:
            dying.setattr(store._cache, "end_write", lambda keys: None)
            end(store, user.id, token)
        assert not is_good(store, token)


class _Race:
    def __init__(self, store: Store, token: Secret) -> None:
        self.store = store
        self.token = token
        self.begun = threading.Barrier(4)
        self.ended = threading.Event()

    def read(self) -> int:
        """Validates over and over; returns how often the token was good after its end."""
        self.begun.wait(10)
        wrong = 0
        for _ in range(400):
            over = self.ended.is_set()
            good = is_good(self.store, self.token)
            wrong += over and good
            if over and not good:
                break
        return wrong


class TestListActive:
    def test_newest_first_and_only_good_ones(self, store: Store) -> None:
        user = make_user(store)
        made = [sessions.create(store, user.id, device_id=str(number)) for number in range(5)]
        sessions.create(store, make_user(store).id)
        sessions.revoke(store, made[1].token)
        expire(store, made[3].token)
        assert [one.device_id for one in sessions.list_active(store, user.id)] == ["4", "2", "0"]
        users.deactivate(store, user.id)
        assert sessions.list_active(store, user.id) == []
        assert sessions.list_active(store, NOBODY) == []

    def test_pages_hold_every_session_once_even_when_made_at_the_same_time(self, store: Store) -> None:
        user = make_user(store)
        for _ in range(2):
            with store.transaction() as tx:  # one transaction, one time
                for _ in range(4):
                    sessions.create(tx, user.id)
        whole = sessions.list_active(store, user.id)
        assert len(whole) == 8
        pages = []
        before = None
        while page := sessions.list_active(store, user.id, before=before, limit=3):
            pages.append(page)
            before = page[-1]
        assert [len(page) for page in pages] == [3, 3, 2]
        assert [one for page in pages for one in page] == whole

    @pytest.mark.parametrize("limit", [0, 1001, True])
    def test_a_limit_that_is_none(self, store: Store, limit: Any) -> None:
        with pytest.raises(InvalidInput, match="limit"):
            sessions.list_active(store, 1, limit=limit)


class TestDeleteExpired:
    @pytest.mark.parametrize("batch", [1, 5, 7, 10_000])
    def test_deletes_all_of_them_whatever_the_batch(self, store: Store, batch: int) -> None:
        user = make_user(store)
        good = sessions.create(store, user.id).token
        revoked = sessions.create(store, user.id).token
        sessions.revoke(store, revoked)
        add_expired(store, user.id, 15)
        assert sessions.delete_expired(store, batch=batch) == 15
        assert sessions.delete_expired(store, batch=batch) == 0
        assert is_good(store, good)
        with psycopg.connect(store.settings.database_url) as connection:
            assert connection.execute("SELECT count(*) FROM sessions").fetchone() == (2,)

    def test_several_at_once_delete_each_once(self, store: Store) -> None:
        add_expired(store, make_user(store).id, 3000)
        deleted = together([lambda: sessions.delete_expired(store, batch=50)] * 4)
        assert all(type(count) is int for count in deleted)
        assert sum(count for count in deleted if isinstance(count, int)) == 3000

    def test_goes_on_when_another_process_took_a_part_of_the_batch(
        self, store: Store, database_url: str
    ) -> None:
        add_expired(store, make_user(store).id, 15)
        with (
            ThreadPoolExecutor(1) as pool,
            psycopg.connect(database_url) as other,
            psycopg.connect(database_url, autocommit=True) as watching,
        ):
            other.execute(
                "DELETE FROM sessions WHERE token_hash IN"
                " (SELECT token_hash FROM sessions ORDER BY expires_at LIMIT 3)"
            )
            deleted = pool.submit(sessions.delete_expired, store, batch=5)
            blocked(watching)
            other.commit()
            assert deleted.result(10) == 12

    def test_in_a_transaction_that_rolls_back(self, store: Store) -> None:
        add_expired(store, make_user(store).id, 15)
        with rolled_back(store) as tx:
            assert sessions.delete_expired(tx, batch=4) == 15
        assert sessions.delete_expired(store) == 15

    @pytest.mark.parametrize("batch", [0, -1, 10_001, True, 1.5])
    def test_a_batch_that_is_none(self, store: Store, batch: Any) -> None:
        with pytest.raises(InvalidInput, match="batch"):
            sessions.delete_expired(store, batch=batch)


class TestWithoutRedis:
    @pytest.mark.parametrize("redis_url", [None, "redis://127.0.0.1:1/0"])
    def test_everything_is_answered_by_postgresql(self, database_url: str, redis_url: str | None) -> None:
        with Store.open(database_url, redis_url) as store:
            user = make_user(store)
            token, other = (sessions.create(store, user.id).token for _ in range(2))
            assert is_good(store, token)
            sessions.touch(store, token)
            sessions.revoke(store, token)
            assert not is_good(store, token)
            assert is_good(store, other)
            users.deactivate(store, user.id)
            assert not is_good(store, other)
            users.delete(store, user.id)


class TestText:
    @settings(
        max_examples=60,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
        derandomize=True,
    )
    @given(text=st.text(max_size=128))
    @example("x'); DELETE FROM sessions; --")
    @example("%(token_hash)s %s %% {0} ${jndi:ldap://x} \\x00 \\u0000 \\")
    @example("\ufeff\u202eR\u2066T\u2069L\u200b\u0301 ﷽ 🏳️‍🌈 \x01\x1b[31m\r\n\t\x7f\x85")
    @example("null")
    @example("nul\0")
    @example("\ud800")
    def test_any_text_comes_back_equal_or_is_refused(self, store: Store, text: str) -> None:
        user = make_user(store)
        calls: list[tuple[str, Callable[[], object]]] = [
            ("device_id", lambda: sessions.create(store, user.id, device_id=text)),
            ("user_agent", lambda: sessions.create(store, user.id, user_agent=text)),
            ("display_name", lambda: users.update_profile(store, user.id, display_name=text)),
            ("avatar_url", lambda: users.update_profile(store, user.id, avatar_url=text)),
            ("username", lambda: users.find_by_username(store, text)),
            ("email", lambda: users.find_by_email(store, text)),
        ]
        if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
            for field, call in calls:
                with pytest.raises(InvalidInput) as caught:
                    call()
                assert (caught.value.field, caught.value.value) == (field, text)
            return
        made = sessions.create(store, user.id, device_id=text, user_agent=text)
        for found in (made, sessions.validate(store, made.token), sessions.validate(store, made.token)):
            assert (found.device_id, found.user_agent) == (text, text)
        changed = users.update_profile(store, user.id, display_name=text, avatar_url=text)
        assert (changed.display_name, changed.avatar_url) == (text, text)
        assert users.find_by_email(store, text) is None
        try:
            named = make_user(store, username=text)
        except InvalidInput:  # a rule for names, such as no white space at the ends
            assert users.find_by_username(store, text) is None
        else:
            assert named.username == text
            assert users.get_by_username(store, text) == named
            users.delete(store, named.id)


class TestPlans:
    PARAMS = (
        ("sessions/validate", {"token_hash": hashlib.sha256(b"77").digest()}, "sessions_pkey"),
        ("sessions/touch", {"token_hash": hashlib.sha256(b"77").digest()}, "sessions_pkey"),
        ("sessions/revoke", {"token_hash": hashlib.sha256(b"77").digest()}, "sessions_pkey"),
        ("sessions/revoke_all", {"user_id": 7, "kept_hash": None}, "sessions_user_id_idx"),
        (
            "sessions/list_active",
            {"user_id": 7, "before_created_at": None, "before_hash": None, "limit": 10},
            "sessions_user_id_idx",
        ),
        ("sessions/delete_expired", {"batch": 10}, "sessions_expires_at_idx"),
    )

    @pytest.mark.parametrize(("name", "params", "index"), PARAMS)
    def test_reads_through_its_index(
        self, store: Store, name: str, params: dict[str, Any], index: str
    ) -> None:
        for _ in range(300):
            make_user(store)
        behind(
            store,
            "INSERT INTO sessions (token_hash, user_id, created_at, expires_at)"
            " SELECT sha256(n::text::bytea), 1 + n %% 300, now() - n * interval '1 s', now() + interval '1 h'"
            " FROM generate_series(1, 6000) AS n",
        )
        known = [
            value.query if isinstance(value, CachedQuery) else value for value in vars(sessions).values()
        ]
        query = next(value for value in known if isinstance(value, Query) and value.name == name)
        with psycopg.connect(store.settings.database_url, autocommit=True) as connection:
            connection.execute("ANALYZE users, sessions")
            plan = "\n".join(row[0] for row in connection.execute(f"EXPLAIN {query.text}", params))
        assert "Seq Scan on sessions" not in plan
        assert index in plan, plan


@pytest.mark.parametrize("before", [0, "", False, (), "token-of-somebody", b"x", 5])
def test_a_page_after_what_is_no_session_is_refused(store: Store, before: Any) -> None:
    # What is false was once taken for none: the first page again, for ever.
    with pytest.raises(InvalidInput) as caught:
        sessions.list_active(store, make_user(store).id, before=before)
    assert caught.value.field == "before"
    assert "somebody" not in str(caught.value)
