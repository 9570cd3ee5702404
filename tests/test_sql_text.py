"""Splitting SQL text and reading its placeholders, without a server."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootstream_store._sql_text import first_fault, line_column, parameters, split_statements, tokens
from rootstream_store.errors import QueryError


def texts(sql: str) -> list[str]:
    return [statement.text for statement in split_statements(sql)]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("", []),
        ("  \n-- only a comment\n/* and another */ ;;", []),
        ("SELECT 1", ["SELECT 1"]),
        ("SELECT 1;", ["SELECT 1"]),
        ("SELECT 1; SELECT 2 ;\n", ["SELECT 1", "SELECT 2"]),
        ("-- lead\nSELECT 1 -- tail ; here\n; -- end", ["SELECT 1"]),
        ("SELECT ';'; SELECT 2", ["SELECT ';'", "SELECT 2"]),
        ("SELECT 'it''s;'; SELECT 2", ["SELECT 'it''s;'", "SELECT 2"]),
        # Backslashes are ordinary in plain constants, and escape in E'' ones.
        (r"SELECT '\'; SELECT 2", [r"SELECT '\'", "SELECT 2"]),
        (r"SELECT E'\';'; SELECT 2", [r"SELECT E'\';'", "SELECT 2"]),
        (r"SELECT e'\\'; SELECT 2", [r"SELECT e'\\'", "SELECT 2"]),
        ("SELECT E'a'\n '\\';' ; SELECT 2", ["SELECT E'a'\n '\\';'", "SELECT 2"]),
        ("SELECT E'a' -- why ' not\n '\\';' ; SELECT 2", ["SELECT E'a' -- why ' not\n '\\';'", "SELECT 2"]),
        # The e of a name is not the E of E''.
        (r"SELECT date'\'; SELECT 2", [r"SELECT date'\'", "SELECT 2"]),
        (r"SELECT U&'\0061;' UESCAPE '\'; SELECT 2", [r"SELECT U&'\0061;' UESCAPE '\'", "SELECT 2"]),
        ("SELECT x';', B'1;'; SELECT 2", ["SELECT x';', B'1;'", "SELECT 2"]),
        ('SELECT 1 AS "a;""b"; SELECT 2', ['SELECT 1 AS "a;""b"', "SELECT 2"]),
        ("SELECT $$a;b$$; SELECT 2", ["SELECT $$a;b$$", "SELECT 2"]),
        ("SELECT $x$ $y$ ; $$ ; $x$; SELECT 2", ["SELECT $x$ $y$ ; $$ ; $x$", "SELECT 2"]),
        ("SELECT $é$ ; $é$; SELECT 2", ["SELECT $é$ ; $é$", "SELECT 2"]),
        # $ inside a name, and parameters $1, open no dollar quote.
        ("SELECT a$b$c; SELECT $1$2", ["SELECT a$b$c", "SELECT $1$2"]),
        ("SELECT 1 /* ; /* ; */ ; */ + 1; SELECT 2", ["SELECT 1 /* ; /* ; */ ; */ + 1", "SELECT 2"]),
        ("SELECT 5 --1;\n- 2; SELECT 2", ["SELECT 5 --1;\n- 2", "SELECT 2"]),
        (
            "CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2); SELECT 3",
            ["CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2)", "SELECT 3"],
        ),
        (
            "CREATE OR REPLACE FUNCTION f(begin int) RETURNS int BEGIN ATOMIC SELECT 1; "
            "SELECT CASE WHEN true THEN (CASE WHEN 1=1 THEN 1 END) END; END; SELECT 2",
            [
                "CREATE OR REPLACE FUNCTION f(begin int) RETURNS int BEGIN ATOMIC SELECT 1; "
                "SELECT CASE WHEN true THEN (CASE WHEN 1=1 THEN 1 END) END; END",
                "SELECT 2",
            ],
        ),
        (
            "CREATE PROCEDURE p() BEGIN ATOMIC; END; SELECT 2",
            ["CREATE PROCEDURE p() BEGIN ATOMIC; END", "SELECT 2"],
        ),
        # BEGIN on its own is a statement, and so is one in a function of another language.
        ("BEGIN; SELECT 1; END; SELECT 2", ["BEGIN", "SELECT 1", "END", "SELECT 2"]),
        ("CREATE TABLE begin (atomic int); SELECT 1", ["CREATE TABLE begin (atomic int)", "SELECT 1"]),
        (
            "DO $$ BEGIN PERFORM 1; END $$ LANGUAGE plpgsql; SELECT 2",
            ["DO $$ BEGIN PERFORM 1; END $$ LANGUAGE plpgsql", "SELECT 2"],
        ),
        ("SELECT 1\r\n;\r\nSELECT 2;\r\n", ["SELECT 1", "SELECT 2"]),
        (
            "SELECT a[1:2], b::text; SELECT ')'; SELECT 2",
            ["SELECT a[1:2], b::text", "SELECT ')'", "SELECT 2"],
        ),
    ],
)
def test_split(sql: str, expected: list[str]) -> None:
    assert texts(sql) == expected


def test_offset_points_at_the_statement() -> None:
    sql = "-- first\nSELECT 1;\n\n/* é */ SELECT 2;"
    for statement in split_statements(sql):
        assert sql[statement.offset :].startswith(statement.text)
    assert [line_column(sql, statement.offset) for statement in split_statements(sql)] == [(2, 1), (4, 9)]


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT 1;\n  SELECT 'a", "line 2, column 10: this string is never closed"),
        ("SELECT E'a\\'", "line 1, column 8: this string is never closed"),
        ('SELECT "a', "line 1, column 8: this name is never closed"),
        ("SELECT 1 /* a /* b */", "line 1, column 10: this comment is never closed"),
        ("SELECT $a$ $b$", "line 1, column 8: this string is never closed"),
        ("SELECT 1;\n\\i other.sql\n", r"line 2, column 1: \i is a psql command"),
        ("\\echo it's on", r"line 1, column 1: \echo is a psql command"),
        ("SELECT 1 \\gset", r"line 1, column 10: \gset is a psql command"),
    ],
)
def test_split_refuses(sql: str, message: str) -> None:
    with pytest.raises(QueryError) as caught:
        split_statements(sql)
    assert message in str(caught.value)


@pytest.mark.parametrize("sql", [r"SELECT '\i'", "-- \\i x", "/* \\i */ SELECT 1", "SELECT $$\\i$$", '"\\i"'])
def test_backslashes_in_quotes_and_comments_are_no_fault(sql: str) -> None:
    assert first_fault(sql) is None


_pieces = st.sampled_from(
    [
        "'",
        '"',
        "$$",
        "$a$",
        "/*",
        "*/",
        "--",
        "\n",
        ";",
        "(",
        ")",
        "E'",
        "\\",
        " ",
        "x",
        "1",
        "é",
        "%",
        "begin",
        "atomic",
    ]
)


@given(st.lists(_pieces, max_size=25).map("".join))
def test_tokens_cover_the_text_in_order(sql: str) -> None:
    at = 0
    for token in tokens(sql):
        assert sql[at : token.start].strip(" \t\n\r\f\v") == ""
        assert token.end > token.start
        at = token.end
    assert sql[at:].strip(" \t\n\r\f\v") == ""


@given(
    st.lists(
        st.sampled_from(["SELECT 1", "SELECT ';'", "SELECT $$;$$", 'TABLE "a;"', "SELECT (1)"]), max_size=8
    )
)
def test_joined_statements_come_apart_again(statements: list[str]) -> None:
    assert texts(" ;\n-- it's ;\n".join([*statements, ""])) == statements


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT 1", []),
        ("SELECT %(id)s", [("id", None)]),
        ("SELECT %(id)s::bigint, %(b)s::TEXT[]", [("id", "bigint"), ("b", "text[]")]),
        (
            "%(a)s::timestamptz %(a)s %(b)s :: numeric( 10 , 2 )",
            [("a", "timestamptz"), ("a", None), ("b", "numeric(10,2)")],
        ),
        (
            "%(a)s::double  precision,%(b)s::double precision[]",
            [("a", "double precision"), ("b", "double precision[]")],
        ),
        ("%(a)s::character varying(20)", [("a", "character varying(20)")]),
        ("%(a)s::timestamp(3) with time zone", [("a", "timestamp(3) with time zone")]),
        ("%(a)s::time without time zone[]", [("a", "time without time zone[]")]),
        ("%(a)s::timestamp WITH x", [("a", "timestamp")]),
        ('%(a)s::app."My  Type" [3]', [("a", 'app."My  Type"[3]')]),
        ("%(a)s::pg_catalog.int8 AND b", [("a", "pg_catalog.int8")]),
        ("(%(a)s)::bigint", [("a", None)]),
        ("%(a)s::text IN ('x')", [("a", "text")]),
        ("unnest(%(ids)s::bigint[], %(ns)s::text[])", [("ids", "bigint[]"), ("ns", "text[]")]),
        ("SELECT 7 %% 2, '100 %%', %(a)s::int -- 5 %%", [("a", "int")]),
        ("SELECT %%(a)s", []),
        ("SELECT 1 %%%% %(a)s", [("a", None)]),
    ],
)
def test_parameters(sql: str, expected: list[tuple[str, str | None]]) -> None:
    assert parameters(sql) == expected


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT 7 % 2", "line 1, column 10: a lone %"),
        ("SELECT 1\n-- 100 %", "line 2, column 8: a lone %"),
        ("SELECT 1 %\n2", "a lone %"),
        ("x LIKE 'a%'", "line 1, column 10: a lone %"),
        ("SELECT %s", "%s is positional"),
        ("SELECT %(a)b", "is no parameter"),
        ("SELECT %(a)d", "is no parameter"),
        ("SELECT %(a b)s", "is no parameter"),
        ("SELECT %()s", "is no parameter"),
        ("SELECT %(a", "a lone %"),
        ("SELECT %(a)", "a lone %"),
        ("SELECT '%(a)s'", "inside a string"),
        ("SELECT 1 -- see %(a)s", "inside a comment"),
        ('SELECT 1 AS "%(a)s"', "inside a name"),
        ("DO $$ SELECT %(a)s $$", "inside a string"),
    ],
)
def test_parameters_refuses(sql: str, message: str) -> None:
    with pytest.raises(QueryError) as caught:
        parameters(sql)
    assert message in str(caught.value)


def test_line_column() -> None:
    assert [line_column("a\nbé\n", offset) for offset in range(6)] == [
        (1, 1),
        (1, 2),
        (2, 1),
        (2, 2),
        (2, 3),
        (3, 1),
    ]
