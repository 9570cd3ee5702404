"""What a statement does on a populated database: the indexes and tables of its plan, and what it read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import psycopg
from psycopg import sql
from psycopg.pq import ExecStatus
from psycopg.rows import TupleRow

from rootstream_store.queries import Query

__all__ = ["Mode", "Observed", "indexes_of", "observe"]

Connection = psycopg.Connection[TupleRow]

Mode = Literal["force_generic_plan", "force_custom_plan"]
"""The server plans for the values at hand five times, then for all values if that looks no dearer."""

# Partitions have indexes of their own; the name in the schema is that of the parent.
_INDEXES = """
    SELECT part.relname, coalesce(whole.relname, part.relname)
    FROM pg_class AS part
    LEFT JOIN pg_inherits ON pg_inherits.inhrelid = part.oid
    LEFT JOIN pg_class AS whole ON whole.oid = pg_inherits.inhparent
    WHERE part.relnamespace = 'public'::regnamespace AND part.relkind IN ('i', 'I')
"""
# Of this transaction so far, triggers included; a table read whole, and rows fetched by way of an index.
_COUNTERS = """
    SELECT coalesce(sum(seq_tup_read), 0)::bigint, coalesce(sum(idx_tup_fetch), 0)::bigint
    FROM pg_stat_xact_user_tables
"""


@dataclass(frozen=True)
class Observed:
    indexes: frozenset[str]
    """Those of the plan, a partition's by the name of its parent's; also one that decides an ON CONFLICT."""
    whole: frozenset[str]
    """Tables that the plan reads whole, or would."""
    tables: frozenset[str]
    """Tables that the plan scans, partitions by their own names, but those that were pruned at the start."""
    rows: int
    """Rows read from tables: those that the scans of the plan saw, wanted or not, or, where that is more,
    what the server counted for the statement with its triggers."""
    rows_of_whole: int
    """Rows read by way of no index, triggers included."""
    pages: int
    """Pages of tables and indexes that a SELECT read, 0 for what writes. Many for few rows tell of an index
    that is read through for entries that lie scattered in it."""


def observe(connection: Connection, query: Query[Any], values: Mapping[str, object], mode: Mode) -> Observed:
    """Runs `query` under that plan_cache_mode and takes it back; `connection` is in autocommit."""
    whole_names = indexes_of(connection)
    execute: sql.Composable = sql.SQL("EXECUTE observed")
    if query.parameters:
        literals = [sql.Literal(values[name]) for name in query.parameters]
        execute = execute + sql.SQL(" ({})").format(sql.SQL(", ").join(literals))
    _prepare(connection, query)
    try:
        with connection.transaction(force_rollback=True):
            connection.execute("SELECT set_config('plan_cache_mode', %s, TRUE)", [mode])
            # Planned first, as planning reads the ends of some indexes, which would be counted too.
            connection.execute(sql.SQL("EXPLAIN {}").format(execute))
            before = _counters(connection)
            row = connection.execute(
                sql.SQL("EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF, FORMAT JSON) {}").format(execute)
            ).fetchone()
            after = _counters(connection)
    finally:
        connection.execute("DEALLOCATE observed")
    assert row is not None
    plan = row[0][0]["Plan"]
    nodes = list(_nodes(plan))
    used = {node["Index Name"] for node in nodes if "Index Name" in node}
    used.update(name for node in nodes for name in node.get("Conflict Arbiter Indexes", ()))
    scans = [node for node in nodes if "Relation Name" in node and node["Node Type"] != "ModifyTable"]
    seen = sum(_rows(node) for node in scans)
    counted = [now - then for now, then in zip(after, before, strict=True)]
    return Observed(
        indexes=frozenset(whole_names[name] for name in used),
        whole=frozenset(node["Relation Name"] for node in scans if node["Node Type"] == "Seq Scan"),
        tables=frozenset(node["Relation Name"] for node in scans),
        rows=max(round(seen), sum(counted)),
        rows_of_whole=counted[0],
        pages=plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] if query.is_read else 0,
    )


def indexes_of(connection: Connection) -> dict[str, str]:
    """Index → the same, or for a partition's the one of the partitioned table."""
    return dict(connection.execute(_INDEXES).fetchall())


def _prepare(connection: Connection, query: Query[Any]) -> None:
    # Under a name, which psycopg does not give. The server finds the types from the casts, as always.
    numbers = {name: number for number, name in enumerate(query.parameters, 1)}
    text = re.sub(r"%\((\w+)\)s", lambda match: f"${numbers[match[1]]}", query.text).replace("%%", "%")
    result = connection.pgconn.prepare(b"observed", text.encode())
    assert result.status == ExecStatus.COMMAND_OK, result.get_error_message()


def _counters(connection: Connection) -> tuple[int, int]:
    row = connection.execute(_COUNTERS).fetchone()
    assert row is not None
    return int(row[0]), int(row[1])


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)


def _rows(node: dict[str, Any]) -> float:
    """All rows that a scan looked at. The figures are means over its loops."""
    removed = ("Rows Removed by Filter", "Rows Removed by Index Recheck")
    each: float = node["Actual Rows"] + sum(node.get(name, 0) for name in removed)
    return each * float(node["Actual Loops"])
