"""Statements of the caller's own, and migrations, through C."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .binding import Failed, Native
from .header import constants


@pytest.fixture
def opened(database_url: str, native: Native) -> Iterator[Any]:
    store = native.open(database_url, "")
    yield store
    native.close(store)


def ask(native: Native, store: Any, sql: str, *parameters: object) -> tuple[Any, int]:
    rows, count = native.call("query", store, {"sql": sql, "parameters_json": list(parameters)})
    return json.loads(rows), count


@pytest.mark.parametrize(
    ("sql", "value"),
    [
        ("1", 1),
        ("9223372036854775807", 2**63 - 1),
        ("1.50::float8", 1.5),
        ("'-0.1e-7'::float8", -0.1e-7),
        ("12345678901234567890.10::numeric", 12345678901234567890.10),
        ("'NaN'::float8", "NaN"),
        ("'-Infinity'::numeric", "-Infinity"),
        ("true", True),
        ("NULL::int", None),
        ("''", ""),
        ("'ä\"\\\n'", 'ä"\\\n'),
        ("'{\"a\": [1, null]}'::jsonb", {"a": [1, None]}),
        ("'[1]'::json", [1]),
        ("ARRAY[1, NULL, 3]", [1, None, 3]),
        ("ARRAY[[true], [false]]", [[True], [False]]),
        ("ARRAY['a,b', 'c\"d', 'e\\f', '', 'NULL', NULL]", ["a,b", 'c"d', "e\\f", "", "NULL", None]),
        ("'{}'::int[]", []),
        ("'[0:1]={1,2}'::int[]", [1, 2]),
        ("ARRAY['{\"a\": 1}'::jsonb]", [{"a": 1}]),
        ("'\\x00ff'::bytea", "AP8="),
        ("'2026-11-29 09:00:00.5+01'::timestamptz", "2026-11-29T08:00:00.5+00:00"),
        ("'2026-11-29 09:00:00'::timestamp", "2026-11-29T09:00:00"),
        ("'infinity'::timestamptz", "infinity"),
        ("'2026-11-29'::date", "2026-11-29"),
        ("'1 day 2 hours'::interval", "1 day 02:00:00"),
        ("'10.0.0.1'::inet", "10.0.0.1"),
        ("ROW(1, 'a')", "(1,a)"),
    ],
)
def test_values_keep_their_types(opened: Any, native: Native, sql: str, value: object) -> None:
    assert ask(native, opened, f"SELECT {sql} AS value") == ([{"value": value}], 1)


def test_numbers_keep_every_digit(opened: Any, native: Native) -> None:
    rows, _ = native.call(
        "query", opened, {"sql": "SELECT 0.100::numeric(30, 20) AS n", "parameters_json": None}
    )
    assert rows == '[{"n":0.10000000000000000000}]'


def test_parameters_are_values(opened: Any, native: Native) -> None:
    evil = "'; DROP TABLE users; --"
    sql = (
        "SELECT $1 AS text, $2 AS number, $3::float8 AS real, $4::bool AS flag, $5::jsonb AS json, $6 AS none"
    )
    rows, _ = ask(native, opened, sql, evil, 7, 1.5, True, {"a": [1]}, None)
    assert rows == [{"text": evil, "number": 7, "real": 1.5, "flag": True, "json": {"a": [1]}, "none": None}]
    with pytest.raises(Failed) as failed:
        ask(native, opened, "SELECT $1 AS text", "a\0b")
    assert failed.value.details["field"] == "$1"


def test_columns_of_one_name_stay_apart(opened: Any, native: Native) -> None:
    assert ask(native, opened, "SELECT 1 AS a, 2 AS a, 3 AS a_2, 4 AS a")[0] == [
        {"a": 1, "a_3": 2, "a_2": 3, "a_4": 4}
    ]


def test_what_was_changed_is_counted(opened: Any, native: Native) -> None:
    ask(native, opened, "CREATE TABLE t (n int)")
    assert ask(native, opened, "INSERT INTO t SELECT generate_series(1, 5)") == ([], 5)
    assert ask(native, opened, "DELETE FROM t WHERE n > $1 RETURNING n", 3) == ([{"n": 4}, {"n": 5}], 2)


@pytest.mark.parametrize(
    ("sql", "code", "sqlstate"),
    [
        ("SELECT", "RSS_OK", ""),
        ("SELEC 1", "RSS_E_QUERY", "42601"),
        ("SELECT 1; SELECT 2", "RSS_E_QUERY", "42601"),
        ("SELECT 1 / 0", "RSS_E_INVALID_INPUT", "22012"),
        ("SELECT $1", "RSS_E_QUERY", "08P01"),
        ("INSERT INTO users DEFAULT VALUES", "RSS_E_INVALID_INPUT", "23502"),
        ("COPY users TO STDOUT", "RSS_E_QUERY", ""),
        ("COPY users FROM STDIN", "RSS_E_QUERY", ""),
        ("", "RSS_OK", ""),
    ],
)
def test_errors_are_told_and_leave_nothing_behind(
    opened: Any, native: Native, sql: str, code: str, sqlstate: str
) -> None:
    for _ in range(10):  # more often than there are connections
        if code == "RSS_OK":
            ask(native, opened, sql)
            continue
        with pytest.raises(Failed) as failed:
            ask(native, opened, sql)
        assert (failed.value.code, failed.value.details["sqlstate"]) == (constants()[code], sqlstate)
    assert ask(native, opened, "SELECT 1 AS n") == ([{"n": 1}], 1)


@pytest.mark.parametrize("text", [b"{}", b"[1", b"", b"\xff"])
def test_parameters_that_are_no_array(opened: Any, native: Native, text: bytes) -> None:
    code = native.c.rss_query_json(opened, b"SELECT 1", text, None, None)
    assert code == constants()["RSS_E_INVALID_INPUT"]


def test_migrations(empty_database_url: str, native: Native, tmp_path: Path) -> None:
    store = native.open(empty_database_url, "")
    status = json.loads(native.call("migration_status", store, {"path": None, "line": None}))
    assert (status["line"], status["version"], status["problems"]) == ("rootstream", 0, [])
    count = native.call("migrate", store, {"path": None, "line": None})
    assert count == len(status["pending"]) > 4
    assert native.call("migrate", store, {"path": None, "line": None}) == 0
    (tmp_path / "0001_make.sql").write_text("CREATE TABLE mine (id int);\n")
    assert native.call("migrate", store, {"path": str(tmp_path), "line": "mine"}) == 1
    (tmp_path / "0002_fail.sql").write_text("CREATE TABLE mine (id int);\n")
    with pytest.raises(Failed) as failed:
        native.call("migrate", store, {"path": str(tmp_path), "line": "mine"})
    assert failed.value.code == constants()["RSS_E_MIGRATION"]
    assert "0002_fail.sql:1" in failed.value.details["message"]
    native.close(store)
