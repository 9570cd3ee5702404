"""Every query file against the migrated schema: what it declares is what the server sees, and fits its
record."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import typing
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from types import NoneType, UnionType
from typing import Any
from uuid import UUID

import msgspec
import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.pq import ExecStatus
from psycopg.rows import TupleRow

import rootstream_store
from rootstream_store._sql_text import tokens
from rootstream_store.queries import Query, catalogue, in_use, sql_root
from rootstream_store.secret import Secret

Connection = psycopg.Connection[TupleRow]

# PostgreSQL type -> the Python types that a field for it may have.
PYTHON_TYPES: dict[str, tuple[Any, ...]] = {
    "bigint": (int,),
    "integer": (int,),
    "smallint": (int,),
    "double precision": (float,),
    "text": (str, Secret),
    "boolean": (bool,),
    "bytea": (bytes,),
    "uuid": (UUID,),
    "date": (date,),
    "timestamp with time zone": (datetime,),
    "interval": (timedelta,),
    "jsonb": (Any,),
}

# Columns that are expressions, or come from the far side of an outer join: the server does not say whether
# they may be NULL. True: they may. The reason stands beside each.
NULLABLE: dict[tuple[str, str], bool] = {
    ("billing/get_quota", "bytes_transferred"): False,  # coalesce over sum
    ("billing/get_quota", "is_over_limit"): False,  # coalesce
    ("cache/get_backlog", "waiting"): False,  # count
    ("cache/get_backlog", "oldest_seconds"): True,  # none waits
    ("health/get_statement_timeout", "seconds"): False,
    ("capi/end_backend", "is_ended"): False,  # a function that never answers NULL
    ("capi/move_heads", "is_mine"): False,  # EXISTS
    ("capi/move_heads", "moved_at_us"): False,  # the clock
    ("capi/move_heads", "versions"): False,  # coalesce
    ("capi/open_writer", "backend_start"): False,  # of the process that asks; and so the next one
    ("capi/open_writer", "pid"): False,
    ("capi/store_stats", "is_mine"): False,  # EXISTS
    ("capi/store_stats", "stream_ids"): False,  # coalesce
    ("events/archive", "aggregates"): False,  # count
    ("events/archive", "events"): False,  # count
    ("events/archive", "segments"): False,  # count
    ("events/archive", "bytes_before"): False,  # coalesce over sum
    ("events/archive", "bytes_after"): False,  # coalesce over sum
    ("events/count_unsealed", "events"): False,  # the sum of two counts
    ("events/erase", "operation"): True,  # nothing was left to erase
    ("events/erase", "events"): False,  # count
    ("events/erase", "archived_events"): False,  # count
    ("events/erase", "aggregates"): False,  # count
    ("events/erase", "snapshots"): False,  # count
    ("events/find_altered", "kind"): False,  # a CASE with an ELSE
    ("events/find_altered", "position"): False,  # one side of a full join is there
    ("events/find_altered", "aggregate_type"): True,  # nothing is left of the event; and so the next two
    ("events/find_altered", "aggregate_id"): True,
    ("events/find_altered", "version"): True,
    ("events/find_event_at", "position"): False,  # of columns that are NOT NULL; and so the next three
    ("events/find_event_at", "aggregate_type"): False,
    ("events/find_event_at", "aggregate_id"): False,
    ("events/find_event_at", "version"): False,
    ("events/find_false_erasure", "operation"): False,  # counted
    ("events/find_false_erasure", "fault"): False,  # a CASE with an ELSE
    ("events/find_sealed_position", "position"): False,  # counted
    ("events/verify_seal", "is_intact"): False,  # compares what is never NULL
    ("events/verify_seal", "altered_erased_position"): True,  # min over no row
    ("events/count_events", "events"): False,  # count
    ("events/find_position", "position"): False,  # begins with 0
    ("events/find_repeated", "number"): False,  # ordinality
    ("events/find_repeated", "is_same"): False,  # of columns that are NOT NULL, or IS NOT DISTINCT FROM
    ("events/get_horizon", "position"): False,  # from a coalesce
    ("events/get_horizon", "last_position"): False,  # coalesce
    ("events/get_horizon", "is_primary"): False,  # a function that never answers NULL
    ("events/get_horizon", "is_fresh"): False,  # a setting that there is
    ("events/get_version", "version"): False,  # coalesce
    ("events/move_heads", "moved_at"): False,  # the clock
    ("events/list_in_flight", "watermark"): False,  # coalesce
    ("events/list_in_flight", "role"): True,  # a prepared transaction
    ("events/list_in_flight", "client_address"): True,  # the same, or a local socket
    ("events/load", "last_version"): False,  # coalesce
    ("events/load_archived", "events"): True,  # of no event
    ("events/load", "version"): False,  # coalesce
    ("events/load", "position"): False,  # coalesce
    ("events/load", "state"): True,  # no snapshot
    ("events/load", "events"): True,  # an aggregate of no row
    ("events/load", "is_writable"): False,  # a setting that there is
    ("health/describe_server", "database"): False,  # the one we are connected to
    ("health/describe_server", "version"): False,  # a setting that there is
    ("health/describe_server", "is_primary"): False,  # a function that never answers NULL
    ("health/describe_server", "is_read_only"): False,  # a setting that there is
    ("maintenance/create_usage_partitions", "created"): False,  # counted by our function
    ("maintenance/drop_usage_partitions", "dropped"): False,  # counted by our function
    ("metrics/get_event_log_growth", "estimated_events"): True,  # table never analysed, or not there
    ("metrics/get_event_log_growth", "last_position"): True,  # sequence not there
    ("metrics/list_table_sizes", "table"): False,  # from a list of constants
    ("metrics/list_table_sizes", "table_bytes"): False,  # of at least one table that is there
    ("metrics/list_table_sizes", "index_bytes"): False,  # of at least one table that is there
    ("projections/create_schema", "is_created"): False,  # a function that never answers NULL
    ("projections/drop_schema", "is_dropped"): False,  # the same
    ("projections/get_last_position", "position"): False,  # coalesce
    ("projections/has_schema", "is_there"): False,  # EXISTS
    ("projections/lock_schemas", "is_locked"): False,  # a function that never answers NULL
    ("projections/restore_path", "search_path"): False,  # what it was set to
    ("projections/switch_schemas", "is_done"): False,  # a function that never answers NULL
    ("projections/use_schema", "previous"): False,  # a setting that there is
    ("sessions/create", "ip_address"): True,  # host() of a column that may be NULL
    ("sessions/list_active", "ip_address"): True,  # the same
    ("sessions/touch", "ip_address"): True,  # the same
    ("sessions/validate", "ip_address"): True,  # the same
    ("streams/delete", "key_hash"): False,  # a digest of a column that is NOT NULL
    ("streams/get_info", "key_hash"): False,  # the same
    ("streams/rotate_key", "old_hash"): False,  # the same
    ("users/list_streams", "key_hash"): False,  # the same
    ("subscriptions/claim", "is_leased"): False,  # a constant
    ("subscriptions/list_checkpoints", "is_leased"): False,  # coalesce
    ("projections/lock_aggregate", "is_locked"): False,  # void as a text
    ("subscriptions/list_lag", "horizon"): False,  # a parameter
    ("subscriptions/list_lag", "is_leased"): False,  # coalesce
    ("subscriptions/list_lag", "last_position"): False,  # a parameter
    ("subscriptions/list_lag", "parked"): False,  # count
    ("subscriptions/list_lag", "positions_behind"): False,  # of two that are there
    ("subscriptions/list_lag", "seconds_behind"): True,  # of no event
    ("usage/check_users", "now"): False,  # the clock
    ("usage/check_users", "unknown_user_id"): True,  # min over no row
    ("usage/list_months", "month"): False,  # of a column that is NOT NULL
    ("usage/list_months", "events"): False,  # count
    ("usage/list_months", "bytes_transferred"): False,  # sum over at least one row of a NOT NULL column
    ("usage/list_months", "duration_seconds"): False,  # the same
    ("usage/total_by_stream", "events"): False,  # count
    ("usage/total_by_stream", "bytes_transferred"): False,  # coalesce over sum
    ("usage/total_by_stream", "duration_seconds"): False,  # coalesce over sum
    ("usage/total_by_user", "events"): False,  # count
    ("usage/total_by_user", "bytes_transferred"): False,  # coalesce over sum
    ("usage/total_by_user", "duration_seconds"): False,  # coalesce over sum
    ("viewers/get_figures", "session_id"): True,  # off air
    ("viewers/get_figures", "peak"): False,  # coalesce
    ("viewers/get_figures", "unique"): False,  # coalesce
    ("viewers/get_figures", "is_from_redis"): False,  # a constant
}

# One branch of live events and one of archived ones: the server says nothing of their columns.
NULLABLE |= {
    (name, column): column == "user_id"
    for name in (
        "events/get",
        "events/list_by_user",
        "events/read_all",
        "events/read_all_backward",
        "events/read_backward",
        "events/read_forward",
        "subscriptions/find_event",
        "subscriptions/read",
    )
    for column in (
        "position",
        "aggregate_id",
        "aggregate_type",
        "version",
        "event_type",
        "event_id",
        "event_data",
        "metadata",
        "user_id",
        "timestamp",
    )
}

# Parameters that are no ids and no amounts, for functions of PostgreSQL that take an integer.
SMALL_NUMBERS = {"months"}

# Functions that a statement told as a read may call although the server says that they have effects: they
# are volatile as their answers change, not for what they do.
HARMLESS = {
    "clock_timestamp",
    "pg_is_in_recovery",
    "pg_sequence_last_value",
    "pg_table_size",
    "pg_indexes_size",
    "pg_partition_tree",
}


def _load_everything() -> None:
    for module in pkgutil.walk_packages(rootstream_store.__path__, "rootstream_store."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


_load_everything()
QUERIES = sorted(
    {(query.name, query.record): query for query in in_use}.values(), key=lambda query: query.name
)
each_query = pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.name)


@pytest.fixture(scope="module")
def connection(servers: Any, _template: str) -> Iterator[Connection]:
    with psycopg.connect(make_conninfo(servers.database_url, dbname=_template)) as opened:
        opened.autocommit = True
        yield opened


class Described:
    """What the server says of a statement."""

    def __init__(self, connection: Connection, query: Query[Any]) -> None:
        self.connection = connection
        text = sent_text(query)
        prepared = connection.pgconn.prepare(b"described", text.encode())
        assert prepared.status == ExecStatus.COMMAND_OK, prepared.get_error_message("utf-8")
        self.result = connection.pgconn.describe_prepared(b"described")
        connection.pgconn.exec_(b"DEALLOCATE described")

    @property
    def parameters(self) -> list[str]:
        return [self._type(self.result.param_type(number)) for number in range(self.result.nparams)]

    @property
    def columns(self) -> dict[str, tuple[str, bool | None]]:
        """By name: type, and whether it is NOT NULL in its table; None for an expression."""
        found = {}
        for number in range(self.result.nfields):
            name = (self.result.fname(number) or b"").decode()
            assert name not in found, f"two columns {name}"
            found[name] = (self._type(self.result.ftype(number)), self._is_not_null(number))
        return found

    def _type(self, oid: int) -> str:
        row = self.connection.execute("SELECT format_type(%s, NULL)", [oid]).fetchone()
        assert row is not None
        return str(row[0])

    def _is_not_null(self, number: int) -> bool | None:
        table, column = self.result.ftable(number), self.result.ftablecol(number)
        row = self.connection.execute(
            "SELECT attnotnull FROM pg_attribute WHERE attrelid = %s AND attnum = %s", [table, column]
        ).fetchone()
        return bool(row[0]) if row else None


def sent_text(query: Query[Any]) -> str:
    """The text with $1 for its parameters, numbered as psycopg does: by first appearance."""
    numbers = {name: number for number, name in enumerate(query.parameters, 1)}
    return re.sub(
        r"%(?:\((\w+)\)s|%)", lambda match: f"${numbers[match[1]]}" if match[1] else "%", query.text
    )


def fields_of(query: Query[Any]) -> dict[str, Any]:
    """The record's fields and their types; a plain type is the type of the one column, whatever its name."""
    record = query.record
    if record is None:
        return {}
    if issubclass(record, msgspec.Struct):
        return {field.name: field.type for field in msgspec.structs.fields(record)}
    return {"": record}


def without_none(annotation: Any) -> tuple[Any, bool]:
    if annotation is Any:
        return Any, True
    if isinstance(annotation, UnionType) or typing.get_origin(annotation) is typing.Union:
        rest = [item for item in typing.get_args(annotation) if item is not NoneType]
        assert len(rest) == 1, f"a column has one type, not {annotation}"
        return rest[0], len(typing.get_args(annotation)) == 2
    return annotation, False


@each_query
def test_parameters_have_the_declared_types(query: Query[Any], connection: Connection) -> None:
    declared = [_type_name(connection, cast) for cast in query.parameters.values() if cast is not None]
    assert Described(connection, query).parameters == declared


@each_query
def test_ids_and_amounts_above_2_31_fit(query: Query[Any]) -> None:
    small = {name for name, cast in query.parameters.items() if cast and cast.startswith(("int", "smallint"))}
    assert not {name for name in small - SMALL_NUMBERS if query.parameters[name] != "interval"}


def _type_name(connection: Connection, cast: str) -> str:
    row = connection.execute("SELECT format_type(%s::regtype, NULL)", [cast]).fetchone()
    assert row is not None
    return str(row[0])


@each_query
def test_columns_are_the_fields_of_the_record(query: Query[Any], connection: Connection) -> None:
    fields = fields_of(query)
    columns = Described(connection, query).columns
    if query.record is None:
        return
    if list(fields) == [""]:
        assert len(columns) == 1
        columns = {"": next(iter(columns.values()))}
    assert sorted(columns) == sorted(fields)
    for name, (type_, _) in columns.items():
        python, _ = without_none(fields[name])
        element = type_.removesuffix("[]")
        if element != type_:
            assert typing.get_origin(python) is list, f"{name} is an array"
            python = typing.get_args(python)[0]
        assert python in PYTHON_TYPES[element], f"{name}: {type_} is no {python}"


@each_query
def test_a_column_that_may_be_null_is_optional_and_no_other(
    query: Query[Any], connection: Connection
) -> None:
    fields = fields_of(query)
    joined = bool(re.search(r"\b(LEFT|RIGHT|FULL)\b", query.text))
    for name, (_, not_null) in Described(connection, query).columns.items():
        annotation = fields.get(name, fields.get(""))
        if query.record is None or annotation is Any:
            continue
        key = (query.name, name)
        if not_null is None or (joined and key in NULLABLE):
            assert key in NULLABLE, f"{name} is an expression: say in NULLABLE whether it may be NULL"
            nullable = NULLABLE[key]
        else:
            nullable = not not_null
        assert without_none(annotation)[1] == nullable, (
            f"{name}: NULL is {'' if nullable else 'not '}possible"
        )


def test_every_exception_of_nullability_is_an_expression(connection: Connection) -> None:
    described = {query.name: Described(connection, query).columns for query in QUERIES}
    for name, column in NULLABLE:
        assert column in described[name]
        assert described[name][column][1] is None, "the server knows this one"


@each_query
def test_a_read_that_may_be_repeated_has_no_effects(query: Query[Any], connection: Connection) -> None:
    if not query.is_read:
        return
    spoken = list(tokens(query.text))
    called = {
        query.text[word.start : word.end].lower()
        for word, after in pairwise(spoken)
        if word.kind == "word" and query.text[after.start] == "("
    }
    volatile = {
        row[0]
        for row in connection.execute(
            "SELECT DISTINCT proname::text FROM pg_proc WHERE provolatile = 'v' AND proname = ANY (%s)",
            [list(called)],
        )
    }
    assert volatile <= HARMLESS, "say -- rootstream: writes"


# Parameters that may be None for a reason that the statement does not show.
NULL_INSIDE = {
    # An array that is not sent when none of the events has metadata.
    *((f"events/append_many_{mode}", "metadata") for mode in ("any", "exact", "existing", "new")),
    ("events/append_together", "metadata"),
    ("events/find_repeated", "metadata"),
    # No version was expected: the ids alone tell.
    ("events/find_repeated", "expected"),
    # All or none of what was counted elsewhere.
    *(("streams/stop", name) for name in ("counted_session_id", "epoch", "joined", "peak", "unique")),
    # Handed to a function of ours.
    ("events/erase", "user_id"),
    ("events/erase", "requested_by"),
}


@each_query
def test_null_is_declared_where_the_statement_can_take_it_and_nowhere_else(
    query: Query[Any], connection: Connection
) -> None:
    may_be_null = {
        (name, table, column)
        for name, table, column in stored_as_they_are(query.text)
        if not is_not_null(connection, table, column)
    }
    expected = {name for name, _, _ in may_be_null}
    # A value stands for "as it is", "by default" or "whichever" when there is none.
    expected |= {name for name in query.parameters if f"set_{name}" in query.parameters}
    expected |= set(re.findall(r"coalesce\(%\((\w+)\)s", query.text))
    expected |= set(re.findall(r"%\((\w+)\)s::\w+(?:\[\])? IS NULL", query.text))
    expected |= set(re.findall(r"IS DISTINCT FROM %\((\w+)\)s", query.text))
    expected |= {name for file, name in NULL_INSIDE if file == query.name}
    assert query.nullable == expected


def stored_as_they_are(text: str) -> Iterator[tuple[str, str, str]]:
    """(parameter, table, column) of what INSERT and UPDATE store without a further word."""
    text = re.sub(r"%\((\w+)\)s", r"%\1", text)
    parameter = r"%(\w+)::[a-z ]+"
    for insert in re.finditer(r"INSERT INTO (\w+)(?: AS \w+)? \(([^)]*)\)\s*(?:VALUES \(|SELECT)", text):
        values = re.split(r"\n *(?:\)|FROM\b|WHERE\b)|\)\n", text[insert.end() :], maxsplit=1)[0]
        columns = [column.strip() for column in insert[2].split(",")]
        while "(" in values:  # what is within parentheses is an expression
            values = re.sub(r"\([^()]*\)", "", values)
        items = values.split(",")
        assert len(items) == len(columns), f"a value for each column of {insert[1]}: {items}"
        for column, value in zip(columns, items, strict=True):
            if match := re.fullmatch(parameter, value.strip()):
                yield match[1], insert[1], column
    for update in re.finditer(r"UPDATE (\w+)\s+SET(.*?)\n *(?:FROM|WHERE)", text, re.DOTALL):
        for match in re.finditer(rf"^\s*(\w+) = {parameter}(?:,|$)", update[2], re.MULTILINE):
            yield match[2], update[1], match[1]


def is_not_null(connection: Connection, table: str, column: str) -> bool:
    row = connection.execute(
        "SELECT attnotnull FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attname = %s",
        [table, column],
    ).fetchone()
    # The table of the migrations is not in a template that was loaded; all its columns are NOT NULL.
    assert row is not None or table == "schema_migrations", f"{table}.{column}"
    return row is None or bool(row[0])


def test_every_file_is_used_and_every_use_has_its_file() -> None:
    assert {query.name for query in QUERIES} == set(catalogue())


def test_migrations_and_roles_are_no_queries() -> None:
    assert not [name for name in catalogue() if name.split("/")[0] in ("migrations", "roles")]
    for area in ("migrations", "roles"):
        assert list((sql_root() / area).glob("*.sql")), "and there are some"


SQL_FILES = sorted(sql_root().rglob("*.sql"))
# Keywords that are nobody's column, so that one in lower case is a slip.
KEYWORDS = set(
    re.findall(
        r"\w+",
        """
        select from where insert into update delete values returning with as and or not null is in on join
        cross inner lateral using group by order having limit offset union all case when then else end
        distinct exists between like
        """,
    )
)


@pytest.mark.parametrize("path", SQL_FILES, ids=lambda path: path.relative_to(sql_root()).as_posix())
def test_style_of_a_file(path: Path) -> None:
    text = path.read_text()
    assert re.match(r"-- \S.*[^ \n]\n", text), "the first line is a comment that says what it answers"
    assert text.endswith("\n")
    assert not text.endswith("\n\n")
    assert "\t" not in text
    assert not re.search(r"[ ]$", text, re.MULTILINE), "white space at the end of a line"
    text = re.sub(r"%\(\w+\)s", "%", text)
    words = [text[token.start : token.end] for token in tokens(text) if token.kind == "word"]
    assert not [word for word in words if word in KEYWORDS], "keywords are in upper case"
    if path.parent.name != "migrations":
        code = "".join(
            text[token.start : token.end] + " " for token in tokens(text) if token.kind != "comment"
        )
        assert not re.search(r"\b(SELECT|RETURNING) (DISTINCT )?\* ", code), "columns are named"


SQL_START = re.compile(
    r"\s*(SELECT\s|INSERT INTO\s|UPDATE \S+ SET\s|DELETE FROM\s|WITH (RECURSIVE )?\w+( \(.*\))? AS\s"
    r"|MERGE INTO\s|COPY \w+ (\(|FROM STDIN|TO )|(CREATE|ALTER|DROP|TRUNCATE|LOCK) [A-Z]+ \w+)"
)


@pytest.mark.parametrize(
    "path",
    sorted(Path(rootstream_store.__file__).parent.rglob("*.py")),
    ids=lambda path: path.name,
)
def test_there_is_no_sql_in_python(path: Path) -> None:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    documentation = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    found = [
        f"line {node.lineno}: {node.value[:60]}"
        for node in nodes
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation
        if SQL_START.match(node.value)
    ]
    assert not found


def test_the_search_for_sql_finds_it() -> None:
    for text in (
        "SELECT 1",
        "\n  INSERT INTO a",
        "UPDATE users SET x",
        "WITH a AS (",
        "DELETE FROM x",
        "DROP TABLE x",
    ):
        assert SQL_START.match(text)
    for text in ("Selects a row", "SELECTED", "Update of x", "WITH"):
        assert not SQL_START.match(text)
