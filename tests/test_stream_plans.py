"""The plans of the queries on streams, their sessions and recordings, on tables too large to read whole."""

from __future__ import annotations

import json
from typing import Any

import psycopg

from rootstream_store.queries import catalogue, query

from .factories import PASSWORD_HASH

_POPULATE = (
    """
    INSERT INTO users (username, email, password_hash)
    SELECT 'u' || n, 'u' || n || '@example.com', %(hash)s
    FROM generate_series(1, 500) AS n
    """,
    """
    INSERT INTO streams (user_id, name, stream_key, is_live, started_at)
    SELECT 1 + n % 500, 's' || n, lpad(n::text, 43, 'k'), n % 50 = 0, now()
    FROM generate_series(1, 5000) AS n
    """,
    """
    INSERT INTO stream_sessions (stream_id, session_end, duration_seconds)
    SELECT 1 + n % 5000, now(), 0 FROM generate_series(1, 20000) AS n
    """,
    "INSERT INTO stream_sessions (stream_id) SELECT id FROM streams WHERE is_live",
    """
    INSERT INTO recordings (stream_id, session_id, file_path, expires_at)
    SELECT stream_id, id, id::text, CASE WHEN id % 20 = 0 THEN now() + id * interval '1 min' END
    FROM stream_sessions
    """,
    # One stream with pages of them.
    """
    INSERT INTO recordings (stream_id, file_path) SELECT 50, 'more ' || n FROM generate_series(1, 3000) AS n
    """,
    "ANALYZE",
)

# Query → the indexes that it must use, and no table must be read whole.
_INDEXES: dict[str, set[str]] = {
    "streams/create": set(),
    "streams/delete": {"streams_pkey", "stream_sessions_open_key"},
    "streams/get": {"streams_pkey"},
    "streams/get_by_key": {"streams_stream_key_key"},
    "streams/get_key": {"streams_pkey"},
    "streams/get_viewer_count": {"streams_pkey"},
    "streams/is_live": {"streams_pkey"},
    "streams/list_by_user": {"streams_user_id_idx"},
    "streams/list_live": {"streams_live_idx"},
    "streams/rotate_key": {"streams_pkey"},
    "streams/start": {"streams_pkey"},
    "streams/stop": {"streams_pkey", "stream_sessions_open_key"},
    "streams/update": {"streams_pkey"},
    "streams/update_stats": {"streams_pkey", "stream_sessions_open_key"},
    "stream_sessions/add_bytes": {"stream_sessions_open_key"},
    "stream_sessions/add_viewers": {"streams_pkey", "stream_sessions_open_key"},
    "stream_sessions/get": {"stream_sessions_pkey"},
    "stream_sessions/get_current": {"stream_sessions_open_key"},
    "stream_sessions/list": {"stream_sessions_pkey"},
    "recordings/create": set(),
    "recordings/delete": {"recordings_pkey"},
    "recordings/finish": {"recordings_pkey"},
    "recordings/get": {"recordings_pkey"},
    "recordings/list_by_session": {"recordings_session_id_idx"},
    "recordings/list_by_stream": {"recordings_pkey"},
    "recordings/list_expired": {"recordings_expires_at_idx"},
    "recordings/mark_processed": {"recordings_pkey"},
    "recordings/set_available": {"recordings_pkey"},
}
_VALUES = {
    "stream_id": 50,
    "session_id": 20_001,
    "recording_id": 7,
    "user_id": 51,
    "after_id": 0,
    "limit": 100,
}
_BY_TYPE = {"text": "x", "boolean": True, "bigint": 1}


def _nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", ()) for node in _nodes(child))]


def test_each_query_uses_its_index_and_reads_no_table_whole(database_url: str) -> None:
    areas = ("streams/", "stream_sessions/", "recordings/")
    assert sorted(_INDEXES) == [name for name in catalogue() if name.startswith(areas)]
    wrong: list[str] = []
    with psycopg.connect(database_url, autocommit=True) as connection:
        for statement in _POPULATE:
            connection.execute(statement, {"hash": PASSWORD_HASH} if "%(hash)s" in statement else None)
        for name, indexes in _INDEXES.items():
            asked = query(name)
            values = {
                parameter: _VALUES.get(parameter, _BY_TYPE.get(cast or ""))
                for parameter, cast in asked.parameters.items()
            }
            row = connection.execute(f"EXPLAIN (FORMAT JSON) {asked.text}", values).fetchone()
            assert row is not None
            plan = row[0] if isinstance(row[0], list) else json.loads(row[0])
            nodes = _nodes(plan[0]["Plan"])
            used = {node["Index Name"] for node in nodes if "Index Name" in node}
            whole = [node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"]
            if not indexes <= used or whole:
                wrong.append(f"{name}: uses {sorted(used)}, not {sorted(indexes)}; reads whole: {whole}")
    assert not wrong, "\n".join(wrong)
