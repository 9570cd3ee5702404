"""Accounts: each function and its errors, and what happens when two callers meet."""

from __future__ import annotations

import logging
import pickle
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import psycopg
import pytest

from rootstream_store.cache import Message, keys
from rootstream_store.db import Db
from rootstream_store.errors import AlreadyExists, AuthenticationFailed, InvalidInput, NotFound
from rootstream_store.queries import Query
from rootstream_store.records import User
from rootstream_store.repositories import sessions, stream_sessions, streams, users
from rootstream_store.repositories._passwords import check_password, hash_password
from rootstream_store.secret import Secret
from rootstream_store.store import Store

from .factories import PASSWORD, PASSWORD_HASH, make_stream, make_user
from .together import blocked, together
from .undo import rolled_back

# Beyond what the former C++ layer's columns of 32 bits could hold.
NOBODY = 2**40


@pytest.fixture(autouse=True)
def _cheap_passwords() -> Iterator[None]:
    users.configure_passwords(time_cost=1, memory_cost=8, parallelism=1)
    yield
    users.configure_passwords()


def stored_hash(store: Store, user_id: int) -> str:
    with psycopg.connect(store.settings.database_url) as connection:
        row = connection.execute("SELECT password_hash FROM users WHERE id = %s", [user_id]).fetchone()
    assert row is not None
    return str(row[0])


class TestCreate:
    def test_gives_the_row_that_get_gives(self, store: Store) -> None:
        before = datetime.now(UTC) - timedelta(seconds=5)
        made = users.create(
            store,
            username="Alice",
            email="Alice@Example.com",
            password="wonderland",
            display_name="Alice L.",
            avatar_url="https://example.com/a.png",
        )
        assert made == users.get(store, made.id)
        assert (made.username, made.email) == ("Alice", "Alice@Example.com")
        assert (made.display_name, made.avatar_url) == ("Alice L.", "https://example.com/a.png")
        assert (made.is_active, made.is_verified, made.last_login_at) == (True, False, None)
        assert before < made.created_at == made.updated_at < before + timedelta(minutes=1)
        assert made.created_at.tzinfo is not None

    def test_stores_argon2id_and_never_the_password(self, store: Store) -> None:
        made = users.create(store, username="alice", email="a@example.com", password=Secret("wonderland"))
        assert stored_hash(store, made.id).startswith("$argon2id$v=19$m=8,t=1,p=1$")
        assert "hash" not in " ".join(User.__struct_fields__)

    @pytest.mark.parametrize(
        ("over", "field"),
        [
            ({"username": "BOB"}, "username"),
            ({"email": "Bob@EXAMPLE.com"}, "email"),
        ],
    )
    def test_bob_beside_bob_is_refused(self, store: Store, over: dict[str, str], field: str) -> None:
        make_user(store, username="bob", email="bob@example.com")
        values = {"username": "bobby", "email": "bobby@example.com", "password": PASSWORD, **over}
        with pytest.raises(AlreadyExists) as caught:
            users.create(store, **values)
        error = caught.value
        assert (error.entity, error.field, error.value) == ("user", field, over[field])
        assert (error.sqlstate, error.constraint) == ("23505", f"users_{field}_key")
        assert error.query == "sql/users/create.sql"
        assert not error.retryable
        assert pickle.loads(pickle.dumps(error)).field == field
        assert len(users.list_(store)) == 1

    @pytest.mark.parametrize(
        ("over", "field", "constraint"),
        [
            ({"username": ""}, "username", "users_username_length"),
            ({"username": "x" * 65}, "username", "users_username_length"),
            ({"username": " bob"}, "username", "users_username_format"),
            ({"username": "bob\u00a0"}, "username", "users_username_format"),
            ({"username": "\u3000bob"}, "username", "users_username_format"),
            ({"username": "bob\ufeff"}, "username", "users_username_format"),
            ({"username": "bob\nroot"}, "username", "users_username_format"),
            ({"username": "bob\x01"}, "username", "users_username_format"),
            ({"username": "bob\x85root"}, "username", "users_username_format"),
            ({"email": "a@b.c|"}, "email", "users_email_format"),
            ({"email": "a@b"}, "email", "users_email_format"),
            ({"email": "a b@example.com"}, "email", "users_email_format"),
            ({"email": "a@example.com\n"}, "email", "users_email_format"),
            ({"email": "a" * 250 + "@b.io"}, "email", "users_email_length"),
            ({"display_name": "x" * 129}, "display_name", "users_display_name_length"),
            ({"avatar_url": "x" * 2049}, "avatar_url", "users_avatar_url_length"),
        ],
    )
    def test_a_value_that_breaks_a_rule_is_named(
        self, store: Store, over: dict[str, str], field: str, constraint: str
    ) -> None:
        values = {"username": "alice", "email": "a@example.com", "password": PASSWORD, **over}
        with pytest.raises(InvalidInput) as caught:
            users.create(store, **values)
        error = caught.value
        assert (error.field, error.value, error.constraint) == (field, over[field], constraint)
        assert (error.sqlstate, error.query) == ("23514", "sql/users/create.sql")
        assert not error.retryable
        assert users.list_(store) == []

    @pytest.mark.parametrize("field", ["username", "email", "display_name", "avatar_url", "password"])
    @pytest.mark.parametrize("text", ["root\0x@example.com", "lone\ud800surrogate", 7, b"bytes and more"])
    def test_nul_in_a_username_is_refused_and_never_cut(self, store: Store, field: str, text: object) -> None:
        values: dict[str, Any] = {"username": "root", "email": "root@example.com", "password": PASSWORD}
        with pytest.raises(InvalidInput) as caught:
            users.create(store, **{**values, field: text})
        assert caught.value.field == field
        assert users.list_(store) == []

    def test_a_failed_call_leaves_the_pool_as_it_was(self, store: Store) -> None:
        """Former C++ layer: four duplicate sign-ups, and every call hung for ever."""
        make_user(store, username="bob")
        for _ in range(3 * store.settings.pool_size):
            with pytest.raises(AlreadyExists):
                make_user(store, username="bob")
        assert store._pool.in_use() == 0

    def test_of_many_at_once_one_gets_the_name(self, store: Store) -> None:
        results = together([partial(make_user, store, username=name) for name in ("Bob", "bob") * 4])
        assert sum(isinstance(result, User) for result in results) == 1
        assert {result.field for result in results if isinstance(result, AlreadyExists)} == {"username"}

    def test_a_rollback_leaves_nothing(self, store: Store) -> None:
        with rolled_back(store) as tx:
            made = users.create(tx, username="alice", email="a@example.com", password=PASSWORD)
            assert users.get(tx, made.id) == made
        assert users.find_by_username(store, "alice") is None


class TestRead:
    def test_by_id_username_and_email_whatever_the_case(self, store: Store) -> None:
        user = make_user(store, username="Bob", email="Bob@Example.com")
        make_user(store)
        assert users.get(store, user.id) == user
        for name in ("Bob", "bob", "BOB"):
            assert users.get_by_username(store, name) == user == users.find_by_username(store, name)
        for address in ("Bob@Example.com", "bob@example.COM"):
            assert users.get_by_email(store, address) == user == users.find_by_email(store, address)

    def test_one_who_is_not_there(self, store: Store) -> None:
        make_user(store, username="bob")
        calls: list[tuple[Callable[[], User], dict[str, object], str]] = [
            (lambda: users.get(store, NOBODY), {"user_id": NOBODY}, "get"),
            (lambda: users.get_by_username(store, "bo"), {"username": "bo"}, "get_by_username"),
            (lambda: users.get_by_email(store, "b@b.io"), {"email": "b@b.io"}, "get_by_email"),
        ]
        for call, key, name in calls:
            with pytest.raises(NotFound) as caught:
                call()
            assert (caught.value.entity, caught.value.key) == ("user", key)
            assert caught.value.query == f"sql/users/{name}.sql"
            assert not caught.value.retryable
        assert users.find_by_username(store, "bo") is None
        assert users.find_by_email(store, "b@b.io") is None

    @pytest.mark.parametrize("user_id", ["1", 1.0, True, 2**63, -(2**63) - 1])
    def test_what_is_no_id(self, store: Store, user_id: object) -> None:
        with pytest.raises(InvalidInput) as caught:
            users.get(store, user_id)  # type: ignore[call-overload]  # wrong on purpose
        assert (caught.value.field, caught.value.value) == ("user_id", user_id)

    @pytest.mark.parametrize(
        "name", ["x' OR '1'='1", "%", "_ob", "bob'; DELETE FROM users; --", "\\", "bob "]
    )
    def test_sql_in_a_name_is_only_text(self, store: Store, name: str) -> None:
        make_user(store, username="bob")
        assert users.find_by_username(store, name) is None
        assert users.find_by_email(store, name) is None
        assert len(users.list_(store)) == 1

    def test_ids_above_32_bits(self, store: Store, database_url: str) -> None:
        with psycopg.connect(database_url) as connection:
            connection.execute("ALTER TABLE users ALTER COLUMN id RESTART WITH 5000000000")
        user = make_user(store)
        assert user.id == 5_000_000_000
        assert users.get(store, user.id) == user

    def test_pages_hold_every_user_once(self, store: Store) -> None:
        made = [make_user(store) for _ in range(7)]
        pages, last = [], 0
        while page := users.list_(store, after_id=last, limit=3):
            pages.append(page)
            last = page[-1].id
        assert [len(page) for page in pages] == [3, 3, 1]
        assert [user for page in pages for user in page] == made
        assert users.list_(store) == made

    @pytest.mark.parametrize("limit", [0, -1, 1001, True, 10.0, "10", None])
    def test_a_limit_that_is_none(self, store: Store, limit: object) -> None:
        with pytest.raises(InvalidInput) as caught:
            users.list_(store, limit=limit)  # type: ignore[call-overload]  # wrong on purpose
        assert caught.value.field == "limit"


class TestUpdate:
    def test_profile_changes_what_is_given_only(self, store: Store) -> None:
        user = make_user(store, display_name="Bob", avatar_url="https://example.com/b.png")
        changed = users.update_profile(store, user.id, display_name="Robert")
        assert (changed.display_name, changed.avatar_url) == ("Robert", "https://example.com/b.png")
        assert changed.updated_at > user.updated_at
        cleared = users.update_profile(store, user.id, avatar_url=None)
        assert (cleared.display_name, cleared.avatar_url) == ("Robert", None)
        both = users.update_profile(store, user.id, display_name=None, avatar_url="u")
        assert (both.display_name, both.avatar_url) == (None, "u")
        assert users.update_profile(store, user.id) == both == users.get(store, user.id)

    def test_profile_that_breaks_a_rule(self, store: Store) -> None:
        user = make_user(store)
        with pytest.raises(InvalidInput) as caught:
            users.update_profile(store, user.id, display_name="x" * 129)
        assert (caught.value.field, caught.value.constraint) == ("display_name", "users_display_name_length")
        assert users.get(store, user.id) == user

    def test_a_new_address_is_not_verified(self, store: Store) -> None:
        user = make_user(store)
        assert users.verify(store, user.id).is_verified
        assert users.set_email(store, user.id, user.email).is_verified
        changed = users.set_email(store, user.id, "new@example.com")
        assert (changed.email, changed.is_verified) == ("new@example.com", False)

    def test_an_address_of_somebody_else(self, store: Store) -> None:
        user, other = make_user(store), make_user(store)
        with pytest.raises(AlreadyExists) as caught:
            users.set_email(store, user.id, other.email.upper())
        assert (caught.value.field, caught.value.constraint) == ("email", "users_email_key")
        assert users.get(store, user.id) == user

    def test_record_login(self, store: Store) -> None:
        user = make_user(store)
        first = users.record_login(store, user.id)
        second = users.record_login(store, user.id)
        assert first.last_login_at is not None
        assert second.last_login_at is not None
        assert user.created_at < first.last_login_at < second.last_login_at

    @pytest.mark.parametrize(
        "change",
        [
            lambda db: users.update_profile(db, NOBODY, display_name="x"),
            lambda db: users.set_email(db, NOBODY, "x@example.com"),
            lambda db: users.set_password(db, NOBODY, PASSWORD),
            lambda db: users.record_login(db, NOBODY),
            lambda db: users.verify(db, NOBODY),
            lambda db: users.activate(db, NOBODY),
            lambda db: users.deactivate(db, NOBODY),
            lambda db: users.delete(db, NOBODY),
        ],
        ids=[
            "update_profile",
            "set_email",
            "set_password",
            "record_login",
            "verify",
            "activate",
            "deactivate",
            "delete",
        ],
    )
    def test_a_change_of_a_row_that_is_gone_is_not_a_success(
        self, store: Store, change: Callable[[Db], object]
    ) -> None:
        with pytest.raises(NotFound) as caught:
            change(store)
        assert (caught.value.entity, caught.value.key["user_id"]) == ("user", NOBODY)
        assert caught.value.query is not None
        with pytest.raises(NotFound), store.transaction() as tx:
            change(tx)

    def test_a_failed_load_leaves_nothing_to_write_to(self, store: Store) -> None:
        """Former C++ layer: the user loaded before stayed loaded, and the next write hit that row."""
        user = make_user(store)
        with pytest.raises(NotFound):
            users.record_login(store, users.get(store, NOBODY).id)
        assert users.get(store, user.id) == user


class TestAuthenticate:
    @pytest.mark.parametrize("login", ["Bob", "bob", "bob@example.com", "BOB@example.com"])
    def test_by_username_or_address(self, store: Store, login: str) -> None:
        made = users.create(store, username="Bob", email="bob@Example.com", password="wonderland")
        make_user(store)
        user = users.authenticate(store, login=login, password=Secret("wonderland"))
        assert user.id == made.id
        assert user.last_login_at is not None
        assert user == users.get(store, made.id)

    def test_a_plain_text_never_says_what_was_wrong(self, store: Store) -> None:
        user, inactive = make_user(store), make_user(store)
        users.deactivate(store, inactive.id)
        failures = []
        for login, password in [
            (user.username, "not the password"),
            (user.username, ""),
            (user.username, PASSWORD_HASH),
            (inactive.username, PASSWORD),
            (inactive.username, "not the password"),
            ("nobody", PASSWORD),
            ("", PASSWORD),
        ]:
            with pytest.raises(AuthenticationFailed) as caught:
                users.authenticate(store, login=login, password=password)
            failures.append((str(caught.value), caught.value.query, caught.value.retryable))
        assert len(set(failures)) == 1
        assert users.get(store, user.id).last_login_at is None

    @pytest.mark.parametrize("login", ["alice\0garbage", "alice\0", "\0alice"])
    def test_alice_nul_garbage_does_not_log_in_as_alice(self, store: Store, login: str) -> None:
        make_user(store, username="alice")
        with pytest.raises(InvalidInput, match="login"):
            users.authenticate(store, login=login, password=PASSWORD)
        with pytest.raises(InvalidInput, match="password") as caught:
            users.authenticate(store, login="alice", password=f"{PASSWORD}\0garbage")
        assert caught.value.value is None

    def test_a_username_like_somebodys_address_locks_nobody_out(self, store: Store) -> None:
        bob = make_user(store, email="bob@example.com")
        mallory = users.create(
            store, username="bob@example.com", email="mallory@example.com", password="mallory's own"
        )
        assert users.authenticate(store, login="bob@example.com", password=PASSWORD).id == bob.id
        with pytest.raises(AuthenticationFailed):
            users.authenticate(store, login="bob@example.com", password="mallory's own")
        assert users.authenticate(store, login=mallory.email, password="mallory's own").id == mallory.id

    def test_a_weaker_hash_is_replaced_on_the_way(self, store: Store) -> None:
        user = make_user(store)
        users.configure_passwords(time_cost=2, memory_cost=64, parallelism=1)
        with pytest.raises(AuthenticationFailed):
            users.authenticate(store, login=user.username, password="not the password")
        assert stored_hash(store, user.id) == PASSWORD_HASH
        users.authenticate(store, login=user.username, password=PASSWORD)
        replaced = stored_hash(store, user.id)
        assert replaced.startswith("$argon2id$v=19$m=64,t=2,p=1$")
        users.authenticate(store, login=user.username, password=PASSWORD)
        assert stored_hash(store, user.id) == replaced
        users.configure_passwords(time_cost=1, memory_cost=8, parallelism=1)
        users.authenticate(store, login=user.username, password=PASSWORD)
        assert stored_hash(store, user.id) == replaced, "a stronger hash stays"

    def test_a_password_set_during_a_login_stays_set(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        user = make_user(store)
        users.configure_passwords(time_cost=2, memory_cost=64, parallelism=1)
        changed: list[str] = []

        def hash_and_be_overtaken(password: str | Secret) -> str:
            if not changed:
                monkeypatch.setattr(users, "hash_password", hash_password)
                users.set_password(store, user.id, "set meanwhile")
                changed.append(stored_hash(store, user.id))
            return hash_password(password)

        monkeypatch.setattr(users, "hash_password", hash_and_be_overtaken)
        with pytest.raises(AuthenticationFailed):
            users.authenticate(store, login=user.username, password=PASSWORD)
        assert [stored_hash(store, user.id)] == changed
        users.authenticate(store, login=user.username, password="set meanwhile")

    def test_a_deactivation_during_a_login_wins(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        user = make_user(store)

        def check_and_be_overtaken(stored: str | None, password: str | Secret) -> bool:
            users.deactivate(store, user.id)
            return check_password(stored, password)

        monkeypatch.setattr(users, "check_password", check_and_be_overtaken)
        with pytest.raises(AuthenticationFailed):
            users.authenticate(store, login=user.username, password=PASSWORD)
        assert users.get(store, user.id).last_login_at is None

    def test_many_logins_at_once_that_all_find_a_weak_hash(self, store: Store) -> None:
        user = make_user(store)
        users.configure_passwords(time_cost=2, memory_cost=64, parallelism=1)
        results = together([lambda: users.authenticate(store, login=user.username, password=PASSWORD)] * 8)
        assert [getattr(result, "id", result) for result in results] == [user.id] * 8
        assert stored_hash(store, user.id).startswith("$argon2id$v=19$m=64,t=2,p=1$")

    def test_no_connection_is_held_while_a_password_is_hashed(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        held: list[int] = []

        def watch(function: Callable[..., Any]) -> Callable[..., Any]:
            def watching(*args: Any) -> Any:
                held.append(store._pool.in_use())
                return function(*args)

            return watching

        monkeypatch.setattr(users, "hash_password", watch(hash_password))
        monkeypatch.setattr(users, "check_password", watch(check_password))
        user = users.create(store, username="a", email="a@example.com", password=PASSWORD)
        users.set_password(store, user.id, "wonderland")
        users.authenticate(store, login="a", password="wonderland")
        assert held == [0, 0, 0]

    def test_in_a_transaction_that_rolls_back(self, store: Store) -> None:
        user = make_user(store)
        with rolled_back(store) as tx:
            assert users.authenticate(tx, login=user.username, password=PASSWORD).last_login_at
        assert users.get(store, user.id) == user


class TestSecrets:
    def test_the_password_and_its_hash_are_in_no_error_and_no_log(
        self, store: Store, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        user = make_user(store, username="bob")
        secret = "very secret indeed"
        no_text: Any = secret.encode()
        given = {"password": secret}
        calls: list[Callable[[], object]] = [
            lambda: users.create(store, username="bob", email="x@example.com", **given),
            lambda: users.create(store, username="", email="x@example.com", **given),
            lambda: users.create(store, username="x", email="no address", **given),
            lambda: users.create(store, username="x", email="x@example.com", display_name="x" * 129, **given),
            lambda: users.create(store, username="x\0", email="x@example.com", **given),
            lambda: users.create(store, username="x", email="x@example.com", password=f"{secret}\0"),
            lambda: users.create(store, username="x", email="x@example.com", password=f"{secret}\ud800"),
            lambda: users.create(store, username="x", email="x@example.com", password=no_text),
            lambda: users.set_password(store, NOBODY, secret),
            lambda: users.set_password(store, user.id, f"{secret}\0"),
            lambda: users.authenticate(store, login="bob", password=secret),
            lambda: users.authenticate(store, login="nobody", password=secret),
            lambda: users.authenticate(store, login="bob", password=f"{secret}\0"),
        ]
        for call in calls:
            with pytest.raises((AlreadyExists, AuthenticationFailed, InvalidInput, NotFound)) as caught:
                call()
            text = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
            text += "".join(map(repr, _chain(caught.value)))
            assert secret not in text
            assert "argon2id" not in text
            assert b"very secret" not in pickle.dumps(caught.value)
        assert secret not in caplog.text
        assert "argon2id" not in caplog.text

    def test_what_the_check_reads_does_not_show_itself(self, store: Store) -> None:
        user = make_user(store)
        found = store.one(users._FIND_CREDENTIALS, login=user.username)
        assert found.password_hash == PASSWORD_HASH
        assert "argon2id" not in f"{found!r} {found}"


def _chain(error: BaseException | None) -> Iterator[object]:
    while error is not None:
        yield error.args
        diag = getattr(error, "diag", None)
        yield getattr(diag, "message_primary", None)
        yield error.__dict__
        error = error.__cause__ or error.__context__


class TestSetPassword:
    def test_the_old_one_is_dead_and_so_are_all_sessions(self, store: Store) -> None:
        user, other = make_user(store), make_user(store)
        mine = [sessions.create(store, user.id).token for _ in range(3)]
        theirs = sessions.create(store, other.id).token
        for token in (*mine, theirs):
            sessions.validate(store, token)
        changed = users.set_password(store, user.id, "wonderland")
        assert changed == users.get(store, user.id)
        for token in mine:
            with pytest.raises(AuthenticationFailed):
                sessions.validate(store, token)
        assert sessions.validate(store, theirs).user_id == other.id
        with pytest.raises(AuthenticationFailed):
            users.authenticate(store, login=user.username, password=PASSWORD)
        assert users.authenticate(store, login=user.username, password="wonderland").id == user.id

    def test_one_that_breaks_the_rule_changes_nothing(self, store: Store) -> None:
        user = make_user(store)
        token = sessions.create(store, user.id).token
        with pytest.raises(InvalidInput, match="password"):
            users.set_password(store, user.id, "short")
        assert stored_hash(store, user.id) == PASSWORD_HASH
        sessions.validate(store, token)

    def test_plain_text_can_never_be_stored_as_hash(self, store: Store) -> None:
        user = make_user(store)
        password = "plain text"
        with pytest.raises(InvalidInput) as caught:
            store.one(users._SET_PASSWORD, user_id=user.id, password_hash=password)
        assert (caught.value.field, caught.value.value) == ("password_hash", None)
        assert caught.value.constraint == "users_password_hash_format"
        assert password not in "".join(traceback.format_exception(caught.value))
        assert password not in "".join(map(repr, _chain(caught.value)))

    def test_in_a_transaction_that_rolls_back(self, store: Store) -> None:
        user = make_user(store)
        token = sessions.create(store, user.id).token
        sessions.validate(store, token)
        with rolled_back(store) as tx:
            users.set_password(tx, user.id, "wonderland")
            with pytest.raises(AuthenticationFailed):
                sessions.validate(tx, token)
        assert sessions.validate(store, token).user_id == user.id
        assert stored_hash(store, user.id) == PASSWORD_HASH


class TestActive:
    def test_a_deactivated_user_can_no_longer_be_validated(self, store: Store) -> None:
        user = make_user(store)
        token = sessions.create(store, user.id).token
        sessions.validate(store, token)
        assert not users.deactivate(store, user.id).is_active
        with pytest.raises(AuthenticationFailed):
            sessions.validate(store, token)
        with pytest.raises(AuthenticationFailed):
            users.authenticate(store, login=user.username, password=PASSWORD)
        assert not users.deactivate(store, user.id).is_active
        assert users.activate(store, user.id).is_active
        users.authenticate(store, login=user.username, password=PASSWORD)
        with pytest.raises(AuthenticationFailed):
            sessions.validate(store, token)

    def test_a_session_made_during_a_deactivation_does_not_outlive_it(
        self, store: Store, database_url: str
    ) -> None:
        """The session is inserted but not committed when the deactivation begins, which must see it all the
        same."""
        user = make_user(store)
        with ThreadPoolExecutor(1) as pool, psycopg.connect(database_url, autocommit=True) as other:
            with store.transaction() as tx:
                token = sessions.create(tx, user.id).token
                deactivated = pool.submit(users.deactivate, store, user.id)
                blocked(other)
            assert not deactivated.result(10).is_active
        users.activate(store, user.id)
        with pytest.raises(AuthenticationFailed):
            sessions.validate(store, token)

    def test_no_session_is_made_once_a_deactivation_began(self, store: Store, database_url: str) -> None:
        user = make_user(store)
        with ThreadPoolExecutor(1) as pool, psycopg.connect(database_url, autocommit=True) as other:
            with store.transaction() as tx:
                users.deactivate(tx, user.id)
                refused = pool.submit(sessions.create, store, user.id)
                blocked(other)
            assert type(refused.exception(10)).__name__ == "PermissionDenied"


class TestDelete:
    def test_takes_sessions_with_it_the_cached_ones_too(self, store: Store) -> None:
        user, other = make_user(store), make_user(store)
        token = sessions.create(store, user.id).token
        theirs = sessions.create(store, other.id).token
        for each in (token, theirs):
            sessions.validate(store, each)
        users.delete(store, user.id)
        with pytest.raises(NotFound):
            users.get(store, user.id)
        with pytest.raises(AuthenticationFailed):
            sessions.validate(store, token)
        sessions.validate(store, theirs)
        with pytest.raises(NotFound):
            users.delete(store, user.id)

    def test_a_session_cached_during_a_deletion_does_not_outlive_it(
        self, store: Store, database_url: str
    ) -> None:
        user = make_user(store)
        with ThreadPoolExecutor(1) as pool, psycopg.connect(database_url, autocommit=True) as other:
            with store.transaction() as tx:
                token = sessions.create(tx, user.id).token
                key = f"session:{sessions._digest(token).hex()}"
                deleted = pool.submit(users.delete, store, user.id)
                blocked(other)
                # As a reader would between the two commits.
                store.redis.set(key, b"cached")
            deleted.result(10)
        assert store.redis.exists(key) == 0
        with pytest.raises(AuthenticationFailed):
            sessions.validate(store, token)

    def test_waits_for_a_broadcast_that_is_being_changed(self, store: Store, database_url: str) -> None:
        user = make_user(store)
        stream = make_stream(store, user.id)
        streams.start(store, stream.id)
        with ThreadPoolExecutor(1) as pool, psycopg.connect(database_url, autocommit=True) as other:
            with store.transaction() as tx:
                stream_sessions.add_bytes(tx, stream.id, 5)
                deleted = pool.submit(users.delete, store, user.id)
                blocked(other)
                # Each of these takes one more lock, and none that the deletion has already.
                streams.update_stats(tx, stream.id, bytes_sent=5)
                streams.stop(tx, stream.id)
            assert deleted.exception(10) is None
        with pytest.raises(NotFound):
            streams.get(store, stream.id)

    def test_of_two_at_once_one_deletes(self, store: Store) -> None:
        user = make_user(store)
        results = together([lambda: users.delete(store, user.id)] * 4)
        assert sorted(type(result).__name__ for result in results) == ["NoneType"] + ["NotFound"] * 3

    def test_in_a_transaction_that_rolls_back(self, store: Store) -> None:
        user = make_user(store)
        token = sessions.create(store, user.id).token
        sessions.validate(store, token)
        with rolled_back(store) as tx:
            users.delete(tx, user.id)
        assert users.get(store, user.id) == user
        assert sessions.validate(store, token).user_id == user.id


class TestGetMany:
    def test_in_order_of_id_each_once_and_those_alone_that_are_there(self, store: Store) -> None:
        made = [make_user(store, username=f"u{number}") for number in range(4)]
        first, second, _, fourth = made
        assert users.get_many(store, [fourth.id, first.id, 999, second.id, first.id]) == [
            first,
            second,
            fourth,
        ]
        assert users.get_many(store, {first.id}) == [first]
        assert users.get_many(store, ()) == []

    @pytest.mark.parametrize(
        ("ids", "field"),
        [
            ("12", "user_ids"),
            (7, "user_ids"),
            (range(1001), "user_ids"),
            ([1, "2"], r"user_ids\[1\]"),
            ([1, None], r"user_ids\[1\]"),
            ([True], r"user_ids\[0\]"),
        ],
    )
    def test_what_is_no_list_of_ids_is_refused(self, store: Store, ids: Any, field: str) -> None:
        with pytest.raises(InvalidInput, match=field):
            users.get_many(store, ids)


class TestPlans:
    @pytest.mark.parametrize(
        ("query", "params", "indexes"),
        [
            ("users/get", {"user_id": 77}, ["users_pkey"]),
            ("users/get_by_username", {"username": "USER77"}, ["users_username_key"]),
            ("users/get_by_email", {"email": "USER77@example.com"}, ["users_email_key"]),
            ("users/find_credentials", {"login": "user77"}, ["users_username_key", "users_email_key"]),
            ("users/list", {"after_id": 77, "limit": 10}, ["users_pkey"]),
        ],
    )
    def test_reads_through_its_index(
        self, store: Store, query: str, params: dict[str, Any], indexes: list[str]
    ) -> None:
        with psycopg.connect(store.settings.database_url, autocommit=True) as connection:
            connection.execute(
                "INSERT INTO users (username, email, password_hash)"
                " SELECT 'user' || n, 'user' || n || '@example.com', %s FROM generate_series(1, 3000) AS n",
                [PASSWORD_HASH],
            )
            connection.execute("ANALYZE users")
            found = [
                value.text
                for value in vars(users).values()
                if isinstance(value, Query) and value.name == query
            ]
            plan = "\n".join(row[0] for row in connection.execute(f"EXPLAIN {found[0]}", params))
        assert "Seq Scan" not in plan
        for index in indexes:
            assert index in plan, plan


def test_delete_takes_the_live_status_of_the_streams_along(store: Store) -> None:
    user = make_user(store)
    on_air, off_air = make_stream(store, user.id), make_stream(store, user.id)
    streams.start(store, on_air.id)
    assert (streams.is_live(store, on_air.id), streams.is_live(store, off_air.id)) == (True, False)
    with store.subscribe(keys.events(on_air.id)) as messages:
        users.delete(store, user.id)
        message = messages.get(timeout=5)
    assert isinstance(message, Message)
    assert message.data == b"ended"
    for stream in (on_air, off_air):
        with pytest.raises(NotFound):
            streams.is_live(store, stream.id)
