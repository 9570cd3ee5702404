"""Errors: one class a remedy, whole after pickling, and without a word of what is secret."""

from __future__ import annotations

import copy
import pickle
import threading
import traceback
from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg.pq import DiagnosticField

from rootstream_store import errors
from rootstream_store.database import translate
from rootstream_store.errors import (
    AlreadyExists,
    AuthenticationFailed,
    Conflict,
    DatabaseError,
    InvalidInput,
    MigrationError,
    NotFound,
    PermissionDenied,
    QueryError,
    RootStreamError,
    SettingsError,
    StoreClosed,
    Timeout,
    TooManyRows,
    Unavailable,
    VersionConflict,
)
from rootstream_store.queries import query
from rootstream_store.records import User
from rootstream_store.store import Store

from .factories import PASSWORD_HASH, make_user
from .statements import statement

DETAILS = {"sqlstate": "12345", "constraint": "a_b_c", "query": "sql/a/b.sql"}
ONE_OF_EACH: list[RootStreamError] = [
    RootStreamError("base", **DETAILS),
    NotFound("user", {"user_id": 7}, **DETAILS),
    TooManyRows("two", **DETAILS),
    AlreadyExists("user", "email", "a@example.com", **DETAILS),
    InvalidInput("email", "must be one", "x", **DETAILS),
    Conflict("live", **DETAILS),
    VersionConflict("Stream", "s1", 3, 4, **DETAILS),
    AuthenticationFailed("no", **DETAILS),
    PermissionDenied("no", **DETAILS),
    Unavailable("gone", outcome_unknown=True, **DETAILS),
    Unavailable("gone"),
    Timeout("late", **DETAILS),
    StoreClosed("closed"),
    SettingsError("pool_size"),
    QueryError("missing", **DETAILS),
    MigrationError("bad", file="0001_a.sql", line=3, column=4, **DETAILS),
    DatabaseError("other", **DETAILS),
]
each_error = pytest.mark.parametrize("error", ONE_OF_EACH, ids=lambda error: type(error).__name__)


def test_there_is_one_of_each() -> None:
    classes = {
        value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)
    }
    assert classes == {type(error) for error in ONE_OF_EACH}
    assert {cls.__name__ for cls in classes} == set(errors.__all__)
    assert all(issubclass(cls, RootStreamError) for cls in classes)


@each_error
@pytest.mark.parametrize(
    "copied",
    [lambda e: pickle.loads(pickle.dumps(e)), copy.copy, copy.deepcopy],
    ids=["pickle", "copy", "deepcopy"],
)
def test_copies_are_whole(
    error: RootStreamError, copied: Callable[[RootStreamError], RootStreamError]
) -> None:
    error = copy.copy(error)
    error.add_note("a note")
    error.__cause__ = ValueError("the cause")
    again = copied(error)
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert again.args == error.args
    assert vars(again) == vars(error)
    assert again.__notes__ == ["a note"]
    assert repr(again.__cause__) == "ValueError('the cause')"
    assert again.retryable == error.retryable


def test_messages_say_what_was_wrong_with_which_value() -> None:
    assert str(ONE_OF_EACH[1]) == "no user with user_id=7 (in sql/a/b.sql)"
    assert str(ONE_OF_EACH[3]) == "user with email='a@example.com' already exists (in sql/a/b.sql)"
    assert str(ONE_OF_EACH[4]) == "email: must be one, not 'x' (in sql/a/b.sql)"
    assert str(ONE_OF_EACH[6]) == "Stream 's1' is at version 4, expected 3 (in sql/a/b.sql)"
    assert str(ONE_OF_EACH[15]) == "0001_a.sql:3:4: bad (in sql/a/b.sql)"
    assert str(NotFound("user")) == "no such user"
    assert str(InvalidInput("x", "rule")) == "x: rule"
    assert ONE_OF_EACH[1].message == "no user with user_id=7"


@pytest.mark.parametrize(
    "error",
    [
        NotFound("user", {"username": "x" * 10**6}),
        AlreadyExists("user", "name", "x" * 10**6),
        InvalidInput("a", "b", "x" * 10**6),
    ],
)
def test_a_long_value_does_not_make_a_long_message(error: RootStreamError) -> None:
    assert len(str(error)) < 200
    assert "characters)" in str(error)


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError

    def __reduce__(self) -> str:
        raise RuntimeError


def deep() -> list[object]:
    nested: list[object] = []
    for _ in range(10**5):
        nested = [nested]
    return nested


@pytest.mark.parametrize(
    "value",
    [
        10**5000,
        -(10**5000),
        [10**5000],
        Unprintable(),
        [Unprintable()],
        deep(),
        list(range(10**6)),
        b"x" * 10**6,
    ],
    ids=["int", "negative", "in a list", "unprintable", "in a list too", "deep", "long", "bytes"],
)
def test_any_value_can_be_told_and_pickled(value: object) -> None:
    for error in (
        InvalidInput("a", "b", value),
        NotFound("user", {"a": value}),
        AlreadyExists("user", "a", value),
    ):
        assert len(str(error)) < 200
        again = pickle.loads(pickle.dumps(error))
        assert str(again) == str(error)


@pytest.mark.parametrize(
    "value", [threading.Lock(), lambda: None, (1, threading.Lock()), {threading.Lock(): 1}]
)
def test_what_cannot_be_pickled_becomes_its_short_text(value: object) -> None:
    again = pickle.loads(pickle.dumps(InvalidInput("a", "b", value)))
    assert ("lock" if "lock" in str(value) else "lambda") in str(again.value)
    again = pickle.loads(pickle.dumps(NotFound("user", {"a": value, "b": 7})))
    assert again.key["b"] == 7


def test_retryable() -> None:
    assert {type(error) for error in ONE_OF_EACH if error.retryable} == {Timeout, Unavailable}
    assert not Unavailable("x", outcome_unknown=True).retryable
    assert Unavailable("x").retryable


# From the server


def raised(store: Store, text: str, **params: object) -> RootStreamError:
    nulls = ", ".join(name for name, value in params.items() if value is None)
    text = f"-- rootstream: null {nulls}\n{text}" if nulls else text  # so that the server is asked
    with pytest.raises(RootStreamError) as caught:
        store.run(statement(text, None, "area/file"), **params)
    error = caught.value
    assert error.query == "sql/area/file.sql"
    assert isinstance(error.__cause__, psycopg.Error)
    return error


def insert_user(store: Store, **over: str | None) -> RootStreamError:
    values = {"username": "ann", "email": "ann@example.com", "password_hash": PASSWORD_HASH} | over
    names = ", ".join(values)
    given = ", ".join(f"%({name})s::text" for name in values)
    return raised(store, f"INSERT INTO users ({names}) VALUES ({given})", **values)  # noqa: S608  # columns named here


def test_unique(store: Store) -> None:
    make_user(store, username="ann", email="ann@example.com")
    error = insert_user(store, username="ANN", email="other@example.com")
    assert isinstance(error, AlreadyExists)
    assert (error.entity, error.field, error.value) == ("user", "username", "ANN")
    assert (error.sqlstate, error.constraint) == ("23505", "users_username_key")
    error = insert_user(store, username="other", email="Ann@example.com")
    assert isinstance(error, AlreadyExists)
    assert error.field == "email"


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("username", "", "must be 1 to 64 characters"),
        ("username", " ann", "must hold no control character and no white space at either end"),
        ("email", "a@b.c|", "must be an e-mail address, such as ann@example.org"),
        ("display_name", "x" * 129, "must be at most 128 characters"),
    ],
)
def test_check(store: Store, field: str, value: str, rule: str) -> None:
    error = insert_user(store, **{field: value})
    assert isinstance(error, InvalidInput)
    assert (error.field, error.rule, error.value) == (field, rule, value)
    assert error.sqlstate == "23514"
    assert str(error.constraint).startswith(f"users_{field}_")


def test_not_null(store: Store) -> None:
    error = insert_user(store, username=None)
    assert isinstance(error, InvalidInput)
    assert (error.field, error.rule, error.sqlstate) == ("username", "must not be null", "23502")


def test_foreign_key(store: Store) -> None:
    error = raised(
        store,
        "INSERT INTO streams (user_id, name, stream_key) VALUES (%(user_id)s::bigint, 'a', repeat('x', 43))",
        user_id=7,
    )
    assert isinstance(error, NotFound)
    assert (error.entity, error.key, error.constraint) == ("user", {"user_id": 7}, "streams_user_id_fkey")


def test_foreign_key_of_a_recording_to_its_session(store: Store) -> None:
    user = make_user(store)
    store.run(
        statement(
            "INSERT INTO streams (id, user_id, name, stream_key) "
            "VALUES (5, %(u)s::bigint, 'a', repeat('x', 43))"
        ),
        u=user.id,
    )
    error = raised(store, "INSERT INTO recordings (stream_id, session_id, file_path) VALUES (5, 6, 'a')")
    assert isinstance(error, NotFound)
    assert error.entity == "stream session"


@pytest.mark.parametrize(
    "month", ["now()", "timestamptz '2000-01-01'"], ids=["partition", "default partition"]
)
def test_constraints_of_a_partition_are_those_of_the_table(store: Store, month: str) -> None:
    insert = (
        "INSERT INTO usage_logs (user_id, created_at, id, event_type, bytes_transferred) "  # noqa: S608  # a time of ours
        f"VALUES (%(user_id)s::bigint, {month}, 1, %(event_type)s::text, %(bytes_transferred)s::bigint)"
    )
    error = raised(store, insert, user_id=7, event_type="join", bytes_transferred=0)
    assert isinstance(error, NotFound)
    assert (error.entity, error.key) == ("user", {"user_id": 7})
    user = make_user(store)
    error = raised(store, insert, user_id=user.id, event_type="join", bytes_transferred=-1)
    assert isinstance(error, InvalidInput)
    assert (error.field, error.rule, error.value) == ("bytes_transferred", "must be at least 0", -1)
    entry = {"user_id": user.id, "event_type": "join", "bytes_transferred": 0}
    twice: list[AlreadyExists] = []

    def log_twice() -> None:
        with store.transaction() as tx:  # where now() stands still
            tx.run(statement(insert), **entry)
            try:
                tx.run(statement(insert), **entry)
            except AlreadyExists as error:
                twice.append(error)
                raise

    with pytest.raises(AlreadyExists) as caught:
        log_twice()
    assert twice == [caught.value]
    assert (caught.value.entity, caught.value.field) == ("usage log", "id")


RAISE = (
    "DO $$ BEGIN RAISE EXCEPTION 'the message' "
    "USING ERRCODE = '{}', DETAIL = 'hunter2', HINT = 'a hint'; END $$"
)


@pytest.mark.parametrize(
    ("state", "kind", "retryable"),
    [
        ("40001", Conflict, True),
        ("40P01", Conflict, True),
        ("40003", Unavailable, False),
        ("57014", Timeout, True),
        ("55P03", Timeout, True),
        ("57P01", Unavailable, True),
        ("57P03", Unavailable, True),
        ("57P05", Unavailable, True),
        ("08006", Unavailable, False),
        ("25006", Unavailable, True),
        ("53100", Unavailable, True),
        ("53300", Unavailable, True),
        ("42501", PermissionDenied, False),
        ("28000", PermissionDenied, False),
        ("28P01", PermissionDenied, False),
        ("22023", InvalidInput, False),
        ("42P01", QueryError, False),
        ("P0001", DatabaseError, False),
        ("0A000", DatabaseError, False),
        ("XX000", DatabaseError, False),
    ],
)
def test_states(database_url: str, state: str, kind: type[RootStreamError], retryable: bool) -> None:
    with Store.open(database_url, retry_deadline=0) as store:
        error = raised(store, RAISE.format(state))
        assert type(error) is kind
        assert error.sqlstate == state
        assert error.retryable is retryable
        assert "the message" in str(error)
        assert store.one(statement("SELECT 1", int)) == 1


def test_read_only_server(store: Store) -> None:
    store.run(statement("SELECT set_config('default_transaction_read_only', 'on', FALSE)"))
    with pytest.raises(Unavailable, match="read-only") as caught, store.transaction() as tx:
        tx.run(statement("CREATE TABLE a (b bigint)"))
    assert caught.value.retryable
    store.run(statement("CREATE TABLE a (b bigint)"))


def test_permission(store: Store, database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute("CREATE ROLE guest LOGIN")
        try:
            with Store.open(f"{database_url} user=guest") as guest:
                error = raised(guest, "DELETE FROM users")
                assert isinstance(error, PermissionDenied)
                assert error.sqlstate == "42501"
        finally:
            admin.execute("DROP ROLE guest")


def test_shard_numbers_of_citus_are_left_out() -> None:
    # No Citus here: what it sends is made up as psycopg would unpickle it.
    info = {
        DiagnosticField.SQLSTATE: b"23505",
        DiagnosticField.MESSAGE_PRIMARY: b"duplicate key",
        DiagnosticField.CONSTRAINT_NAME: b"recordings_file_path_key_102008",
        DiagnosticField.TABLE_NAME: b"recordings_102008",
    }
    full = {int(field): info.get(field) for field in DiagnosticField}
    error = translate(psycopg.errors.UniqueViolation("duplicate key", info=full), params={"file_path": "/a"})
    assert isinstance(error, AlreadyExists)
    assert (error.entity, error.field, error.value) == ("recording", "file_path", "/a")
    assert error.constraint == "recordings_file_path_key"


def test_a_constraint_of_a_users_own_table(store: Store) -> None:
    store.run(
        statement(
            "CREATE TABLE mine (a bigint CONSTRAINT mine_a_range CHECK (a > 0), CONSTRAINT odd CHECK (a < 9))"
        )
    )
    error = raised(store, "INSERT INTO mine VALUES (%(a)s::bigint)", a=-1)
    assert isinstance(error, InvalidInput)
    assert (error.field, error.rule) == ("a", "breaks the rule mine_a_range")
    error = raised(store, "INSERT INTO mine VALUES (%(a)s::bigint)", a=10)
    assert isinstance(error, InvalidInput)
    assert "odd" in str(error)


# Secrets


def everything_told(error: BaseException) -> Iterator[str]:
    yield "".join(traceback.format_exception(error))
    yield str(pickle.dumps(error))
    for one in (error, error.__cause__):
        if one is not None:
            yield repr(one)
            yield str(one)
            yield str(one.args)
            yield str(vars(one))
    cause = error.__cause__
    assert isinstance(cause, psycopg.Error)
    for name in dir(cause.diag):
        if not name.startswith("_"):
            yield str(getattr(cause.diag, name))
    assert cause.pgresult is None


@pytest.mark.parametrize(
    "over",
    [
        {"email": "a@b.c|"},
        {"username": None},
        {"password_hash": "hunter2"},
        {"password_hash": PASSWORD_HASH + "!"},
    ],
)
def test_a_refused_row_shows_no_password_hash(store: Store, over: dict[str, str | None]) -> None:
    error = insert_user(store, **over)
    for text in everything_told(error):
        assert PASSWORD_HASH[:30] not in text
        assert "hunter2" not in text
        assert "Failing row" not in text


def test_a_duplicate_secret_is_not_told(store: Store) -> None:
    user = make_user(store)
    insert = (
        "INSERT INTO streams (user_id, name, stream_key) "
        "VALUES (%(user_id)s::bigint, 'a', %(stream_key)s::text)"
    )
    key = "hunter2" * 7
    store.run(statement(insert), user_id=user.id, stream_key=key)
    error = raised(store, insert, user_id=user.id, stream_key=key)
    assert isinstance(error, AlreadyExists)
    assert (error.field, error.value) == ("stream_key", None)
    for text in everything_told(error):
        assert "hunter2" not in text


@pytest.mark.parametrize("state", ["23514", "40001", "XX000"])
def test_detail_and_context_are_not_told(store: Store, state: str) -> None:
    error = raised(store, RAISE.format(state))
    for text in everything_told(error):
        assert "hunter2" not in text.replace(RAISE.format(state), "")
    cause = error.__cause__
    assert isinstance(cause, psycopg.Error)
    assert cause.diag.message_hint == "a hint"
    assert cause.diag.message_detail is None


def test_what_the_server_said_goes_with_a_pickled_error(store: Store) -> None:
    error = insert_user(store, email="x")
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again.__cause__, psycopg.errors.CheckViolation)
    assert again.__cause__.diag.constraint_name == error.constraint
    assert str(again) == str(error)


def test_a_secret_value_of_the_wrong_type_is_not_told(store: Store) -> None:
    with pytest.raises(InvalidInput) as caught:
        store.run(statement("SELECT %(password_hash)s::text"), password_hash=b"hunter2")
    assert caught.value.value is None
    assert "hunter2" not in str(caught.value)


def test_a_session_token_is_no_key_of_an_error(store: Store) -> None:
    with pytest.raises(NotFound) as caught:
        store.one(statement("SELECT 1 WHERE %(token_hash)s::bytea IS NULL", int), token_hash=b"x" * 32)
    assert caught.value.key == {}


def test_the_query_of_a_repository_is_named(store: Store) -> None:
    with pytest.raises(NotFound) as caught:
        store.one(query("users/get", User), user_id=7)
    assert (caught.value.entity, caught.value.key, caught.value.query) == (
        "user",
        {"user_id": 7},
        "sql/users/get.sql",
    )
