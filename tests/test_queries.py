"""Query files: each mistake is found when the file is loaded, each bad value before the server is asked."""

from __future__ import annotations

import datetime as dt
import gc
import ipaddress
import os
import subprocess
import sys
import uuid
from collections.abc import Callable
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootstream_store import events, queries
from rootstream_store.errors import InvalidInput, QueryError
from rootstream_store.queries import Query, catalogue, query, row_checker, sql_root
from rootstream_store.repositories import billing, sessions, usage, users
from rootstream_store.store import Store

from .statements import COPY, statement


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts text into sql/area/name.sql of a catalogue of the test's own, and loads it."""
    monkeypatch.setattr(queries, "sql_root", lambda: tmp_path)
    (tmp_path / "area").mkdir()

    def write_and_load(text: str | bytes) -> Query[Any]:
        path = tmp_path / "area" / "name.sql"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return query("area/name", int)

    return write_and_load


def test_a_good_file(write: Any) -> None:
    made = write("-- What?\nSELECT %(a)s::bigint + %(b)s::bigint * %(a)s::bigint -- 100 %% sure\n")
    assert (made.name, made.file, made.record) == ("area/name", "sql/area/name.sql", int)
    assert made.parameters == {"a": "bigint", "b": "bigint"}
    assert made.is_read
    assert repr(made) == "<Query area/name>"
    assert made in queries.in_use


def test_a_missing_file() -> None:
    with pytest.raises(QueryError, match=r"^no such query file \(in sql/users/no_such.sql\)$"):
        query("users/no_such")


@pytest.mark.parametrize(
    "name",
    ["", "\0", "\ud800", "users/\ud800", "../users/get", "/users/get", "users/", "users//get", "a b", None],
)
def test_a_name_that_no_query_can_have(name: Any) -> None:
    with pytest.raises(QueryError, match=r"^no query can be called ") as caught:
        query(name)
    assert str(caught.value).encode()


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "folder.sql").mkdir()
    for name in ("folder", "x" * 5000):
        with pytest.raises(QueryError, match=r"^cannot be read: .* \(in \w+\.sql\)$"):
            query(name, root=tmp_path)


def test_a_folder_of_ones_own(store: Store, tmp_path: Path) -> None:
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "add.sql").write_text("-- The sum.\nSELECT %(a)s::bigint + 1")
    own = query("reports/add", int, root=tmp_path)
    assert store.one(own, a=1) == 2
    assert (own.name, own.file) == ("reports/add", "reports/add.sql")
    assert own not in queries.in_use
    with pytest.raises(InvalidInput, match=r"^a: must be an integer .* \(in reports/add.sql\)$"):
        store.one(own, a="1")
    with pytest.raises(QueryError, match=r"^no such query file \(in users/get.sql\)$"):
        query("users/get", root=tmp_path)  # the library's own are elsewhere
    (tmp_path / "bad.sql").write_text("-- Two.\nSELECT 1; SELECT 2")
    with pytest.raises(QueryError, match=r"^must be exactly one statement, not 2 \(in bad.sql\)$"):
        query("bad", root=tmp_path)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("SELECT 1", "the first line must be a comment"),
        ("", "the first line must be a comment"),
        ("-- a\n", "must be exactly one statement, not 0"),
        ("-- a\nSELECT 1; SELECT 2", "must be exactly one statement, not 2"),
        ("-- a\nSELECT %(a)s", "parameter 'a' has no type: write %(a)s::type"),
        ("-- a\nSELECT %(a)s::bigint, %(a)s::text", "parameter 'a' has two types"),
        ("-- a\nSELECT %(a)s::bigint, %(a)s", "parameter 'a' has two types"),
        ("-- a\nSELECT %(a)s::money", "type 'money' is not known"),
        ("-- a\nSELECT 5 % 2", "line 2, column 10: a lone %"),
        ("-- a\nSELECT %s", "positional"),
        ("-- 100 % of %(a)s\nSELECT 1", "line 1"),
        ("-- a\nSELECT '%(a)s'", "inside a string"),
        ("-- a\nSELECT 'never closed", "never closed"),
        ("-- rootstream: writes\nSELECT 1", "the first line must be a comment"),
        ("-- a\n-- rootstream: reads\nSELECT 1", "unknown directive 'reads'"),
        ("-- a\n-- rootstream: \nSELECT 1", "unknown directive ''"),
        ("-- a\nSELECT 1\n-- rootstream: writes", "'writes' must stand before the statement"),
        ("-- a\n-- rootstream: writes\n-- rootstream: writes\nSELECT 1", "'writes' is there twice"),
        ("-- a\n-- rootstream: writes a\nSELECT %(a)s::text", "write -- rootstream: null NAME"),
        ("-- a\n-- rootstream: null\nSELECT %(a)s::text", "write -- rootstream: null NAME"),
        ("-- a\n-- rootstream: null a, c, b\nSELECT %(a)s::text", "null names what is no parameter: b, c"),
        ("-- a\n-- rootstream: null a b\nSELECT %(a)s::text", "null names what is no parameter: a b"),
        ("-- a\n-- rootstream: null a,\nSELECT %(a)s::text", "null names what is no parameter"),
        ("-- a\n\\i other.sql", "psql command"),
        (b"-- \xff\nSELECT 1", "not UTF-8"),
    ],
)
def test_a_bad_file_is_refused_when_loaded_and_named(write: Any, text: str | bytes, wrong: str) -> None:
    with pytest.raises(QueryError) as caught:
        write(text)
    assert wrong in str(caught.value)
    assert caught.value.query == "sql/area/name.sql"
    assert str(caught.value).count("sql/area/name.sql") == 1


@pytest.mark.parametrize(
    ("text", "is_read"),
    [
        ("SELECT 1", True),
        ("select 1", True),
        ("VALUES (1)", True),
        ("WITH a AS (SELECT 1) SELECT * FROM a", True),
        ("SELECT updated_at, 'DELETE' FROM a -- UPDATE", True),
        ("WITH a AS (DELETE FROM b RETURNING c) SELECT c FROM a", False),
        ("SELECT 1 FROM a FOR UPDATE", False),
        ("SELECT nextval('a')", False),
        ("INSERT INTO a VALUES (1)", False),
        ("UPDATE a SET b = 1", False),
        ("DELETE FROM a", False),
        ("COPY a FROM STDIN", False),
        ("CALL a()", False),
        ("DO $$ $$", False),
        ("CREATE TABLE a ()", False),
        ("SELECT 1 INTO a", False),
        ("-- rootstream: writes\nSELECT a()", False),
        ("-- why\n--rootstream:writes \n-- more\nSELECT a()", False),
        ("-- of rootstream: writes\nSELECT 1", True),
    ],
)
def test_what_may_be_repeated(text: str, is_read: bool) -> None:
    assert statement(text).is_read is is_read


@pytest.mark.parametrize(
    ("name", "entity"),
    [("users/get", "user"), ("stream_sessions/get", "stream session"), ("billing/get", "billing account")],
)
def test_entity(name: str, entity: str) -> None:
    assert statement("SELECT 1", int, name).entity == entity


def test_the_key_of_an_error_holds_no_secret() -> None:
    given = {"user_id": 1, "id": 2, "username": "a", "stream_key": "s", "token_hash": b"t", "name": "n"}
    assert statement("SELECT 1").key(given) == {"user_id": 1, "id": 2, "username": "a"}


def test_queries_in_use_are_forgotten_with_their_module(write: Any) -> None:
    made = write("-- a\nSELECT 1")
    assert made in queries.in_use
    gc.collect()  # what other tests left
    before = len(queries.in_use)
    del made
    gc.collect()
    assert len(queries.in_use) == before - 1


# Values


def test_names_of_parameters() -> None:
    made = statement("SELECT %(b)s::bigint, %(a)s::bigint")
    made.check({"a": 1, "b": 2})
    for params, wrong in (
        ({}, "missing a, b"),
        ({"a": 1}, "missing b"),
        ({"a": 1, "b": 2, "c": 3}, "unknown c"),
        ({"a": 1, "c": 3}, "missing b; unknown c"),
    ):
        with pytest.raises(QueryError) as caught:
            made.check(params)
        assert str(caught.value) == f"wrong parameters: {wrong} (in sql/items/test.sql)"


class Count(IntEnum):
    ONE = 1


class Name(StrEnum):
    ANN = "ann"


NOW = dt.datetime(2024, 2, 29, 12, 30, 15, 123456, tzinfo=dt.UTC)
NOTHING: Any = None  # what no caller may pass by its type
LATER = NOW + dt.timedelta(days=1)
EAST, WEST = (dt.timezone(dt.timedelta(hours=hours)) for hours in (1, -1))
FIRST, LAST = dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31, 23, 59, 59, 999999)
GOOD: dict[str, list[Any]] = {
    "bigint": [0, -(2**63), 2**63 - 1, 2**31],
    "integer": [0, -(2**31), 2**31 - 1],
    "double precision": [0.0, 1.5, -1e308, 5e-324, 3],
    "text": ["", "a", "it's", "\n\t", "\x01", "\U0001f600", "\u202e", "e\u0301"],
    "boolean": [True, False],
    "bytea": [b"", b"\0\xff"],
    "uuid": [uuid.UUID(int=0), uuid.UUID("12345678-1234-5678-1234-567812345678")],
    "date": [dt.date(1, 1, 1), dt.date(9999, 12, 31)],
    "timestamptz": [
        NOW,
        NOW.astimezone(dt.timezone(dt.timedelta(hours=9))),
        *(moment.replace(tzinfo=dt.UTC) for moment in (FIRST, LAST)),
        FIRST.replace(tzinfo=WEST),
        LAST.replace(tzinfo=EAST),
    ],
    "interval": [dt.timedelta(0), dt.timedelta(days=-1), dt.timedelta(days=400, microseconds=1)],
    "inet": [
        ipaddress.ip_address("127.0.0.1"),
        ipaddress.ip_address("::1"),
        ipaddress.ip_interface("10.0.0.1/8"),
    ],
    "jsonb": ["{}", "null", '{"a": [1, 2.5, "x"]}'],
}
BAD: dict[str, list[Any]] = {
    "bigint": [2**63, -(2**63) - 1, 1.0, "1", True, b"1", Count.ONE, float("nan"), [1]],
    "integer": [2**31, -(2**31) - 1, 1.0, "1", False],
    "double precision": [float("nan"), float("inf"), -float("inf"), 10**400, 2**63, "1", True, 1j],
    "text": [1, b"a", "a\0b", "\0", "\ud800", "a\udfff", ["a"], True],
    "boolean": [1, 0, "true", "t", b""],
    "bytea": ["a", bytearray(b"a"), 1, memoryview(b"a")],
    "uuid": ["12345678-1234-5678-1234-567812345678", 1],
    "date": [NOW, "2024-01-01", 1],
    "timestamptz": [
        NOW.replace(tzinfo=None),
        dt.date(2024, 1, 1),
        "2024-01-01T00:00Z",
        1.5,
        FIRST.replace(tzinfo=EAST),  # in UTC before the first year that Python has
        LAST.replace(tzinfo=WEST),  # in UTC after the last
    ],
    "interval": [1, 1.5, "1 day"],
    "inet": ["127.0.0.1", 1, ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_address("fe80::1%eth0")],
    "jsonb": [{}, [], 1, b"{}", "\0"],
}


@pytest.mark.parametrize(
    ("cast", "value"), [(cast, value) for cast, values in GOOD.items() for value in values]
)
def test_a_good_value_comes_back_equal(store: Store, cast: str, value: Any) -> None:
    answer = store.one(statement(f"SELECT %(value)s::{cast}", object), value=value)
    assert answer == (msgspec.json.decode(value) if cast == "jsonb" else value)
    several = statement(f"SELECT %(value)s::{cast}[]", object)
    if cast != "jsonb":
        assert store.one(several, value=[value, None, value]) == [value, None, value]
        assert store.one(several, value=[]) == []


@pytest.mark.parametrize(
    ("cast", "value"), [(cast, value) for cast, values in BAD.items() for value in values]
)
def test_a_bad_value_is_refused_with_its_name_before_the_server_is_asked(cast: str, value: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        statement(f"SELECT %(the_field)s::{cast}").check({"the_field": value})
    assert caught.value.field == "the_field"
    assert caught.value.query == "sql/items/test.sql"
    assert str(caught.value).startswith("the_field: must be ")
    several = statement(f"SELECT %(the_field)s::{cast}[]")
    for wrong in ([value], (None, value), value):
        if isinstance(wrong, list) and wrong is value:
            continue  # a list is right there
        with pytest.raises(InvalidInput, match=r"^the_field: each must be "):
            several.check({"the_field": wrong})


@pytest.mark.parametrize("cast", [*GOOD, "text[]"])
def test_null_is_of_every_type_where_it_is_declared(store: Store, cast: str) -> None:
    text = f"SELECT %(value)s::{cast}"
    assert store.one(statement(f"-- rootstream: null value\n{text}", object), value=None) is None
    with pytest.raises(InvalidInput, match=r"^value: must not be null \(in sql/items/test.sql\)$") as caught:
        statement(text).check({"value": None})
    assert caught.value.field == "value"
    assert not caught.value.retryable


def test_null_is_declared_for_each_parameter_by_itself() -> None:
    made = statement("-- rootstream: null a , c\nSELECT %(a)s::text, %(b)s::text, %(c)s::text")
    assert made.nullable == {"a", "c"}
    made.check({"a": None, "b": "", "c": None})
    with pytest.raises(InvalidInput, match=r"^b: must not be null"):
        made.check({"a": "", "b": None, "c": ""})


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda store: users.get(store, NOTHING), "user_id"),
        (lambda store: users.list_(store, after_id=NOTHING), "after_id"),
        (lambda store: events.get_version(store, NOTHING, "1"), "aggregate_type"),
        (lambda store: usage.total_by_user(store, NOTHING, since=NOW, until=LATER), "user_id"),
        (lambda store: sessions.revoke_all(store, NOTHING), "user_id"),
        (lambda store: billing.get_quota(store, NOTHING), "user_id"),
    ],
)
def test_an_id_that_is_none_is_refused_and_answers_nothing(
    store: Store, call: Callable[[Store], object], field: str
) -> None:
    with pytest.raises(InvalidInput, match=rf"^{field}: must not be null"):
        call(store)


def test_a_string_that_is_an_enum_is_text(store: Store) -> None:
    assert store.one(statement("SELECT %(value)s::text", str), value=Name.ANN) == "ann"


@given(st.integers())
def test_bigint_bounds(value: int) -> None:
    check = statement("SELECT %(value)s::bigint").check
    if -(2**63) <= value < 2**63:
        check({"value": value})
    else:
        with pytest.raises(InvalidInput):
            check({"value": value})


@given(st.text(st.characters()))
def test_text_is_refused_only_where_it_cannot_be_kept(value: str) -> None:
    check = statement("SELECT %(value)s::text").check
    if "\0" in value or any(0xD800 <= ord(character) < 0xE000 for character in value):
        with pytest.raises(InvalidInput):
            check({"value": value})
    else:
        check({"value": value})


def test_rows_of_a_copy_are_checked_as_parameters_are() -> None:
    check = row_checker(COPY, ["int8", "text"])
    check(1, (1, "a"))
    check(1, [None, None])
    for row, field in (((1.5, "a"), "id"), ((True, "a"), "id"), ((1, b"a"), "name"), ((1, "\0"), "name")):
        with pytest.raises(InvalidInput) as caught:
            check(3, row)
        assert caught.value.field == field
        assert caught.value.__notes__ == ["in row 3"]
    with pytest.raises(QueryError, match="3 types for the columns id, name"):
        row_checker(COPY, ["bigint"] * 3)
    with pytest.raises(QueryError, match="'money' is not known"):
        row_checker(COPY, ["bigint", "money"])


# Where the files are


def test_the_catalogue_is_that_of_the_checkout() -> None:
    root = sql_root()
    assert root.name == "sql"
    assert (root / "migrations").is_dir()
    assert "users/get" in catalogue()
    assert catalogue() == sorted(catalogue())


@pytest.mark.parametrize("layout", ["wheel", "checkout", "none"])
def test_where_the_files_are_looked_for(tmp_path: Path, layout: str) -> None:
    package = tmp_path / "rootstream_store"
    package.mkdir()
    # Without it an installed package of the name would be found before this one.
    (package / "__init__.py").touch()
    for path in Path(queries.__file__).parent.glob("*.py"):
        if path.name in ("queries.py", "errors.py", "secret.py", "_sql_text.py", "_sql_types.py"):
            (package / path.name).write_bytes(path.read_bytes())
    if layout != "none":
        root = (package if layout == "wheel" else tmp_path) / "sql"
        (root / "migrations").mkdir(parents=True)
        (root / "users").mkdir()
        (root / "users" / "get.sql").write_text("-- one\nSELECT 1")
        (root / "migrations" / "0001_a.sql").write_text("-- one\nSELECT 1")
    code = "from rootstream_store.queries import catalogue, sql_root; print(sql_root()); print(catalogue())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    if layout == "none":
        assert done.returncode != 0
        assert "the installation is incomplete" in done.stderr
    else:
        assert done.stdout.splitlines() == [str(root), "['users/get']"], done.stderr
