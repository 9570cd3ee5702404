"""Rows enough that reading a table whole is never the best plan, and some that have many: a user with
thousands of everything, a stream with thousands of sessions and recordings, an aggregate with thousands of
events. A plan that reads more than its page shows there.

Ids count from 1 in the order of insertion, so that a test can say which row it means.
"""

from __future__ import annotations

from typing import Final

import psycopg
from psycopg.rows import TupleRow

from ..factories import PASSWORD_HASH

__all__ = [
    "ARCHIVED_AGGREGATE",
    "ARCHIVED_USER",
    "BUSY_AGGREGATE",
    "BUSY_SESSION",
    "BUSY_STREAM",
    "BUSY_USER",
    "LIVE_STREAM",
    "PLAIN_STREAM",
    "PLAIN_USER",
    "populate",
]

BUSY_USER: Final = 77
"""Owns a seventh of the streams, a tenth of the login sessions and of the usage, a sixtieth of the events."""
PLAIN_USER: Final = 1234
BUSY_STREAM: Final = 500
"""On air, with an eighth of the stream sessions and half of the recordings."""
BUSY_SESSION: Final = 36_000
"""Of BUSY_STREAM, with 4,000 recordings."""
LIVE_STREAM: Final = 1100
PLAIN_STREAM: Final = 1234
"""Off air, with one session on record."""
BUSY_AGGREGATE: Final = "busy"
"""Of type stream, with 20,000 events and a snapshot at each hundredth."""
ARCHIVED_USER: Final = 30_000
"""Caused 200 events, all archived, each in a segment of its own."""
ARCHIVED_AGGREGATE: Final = "old 10000"
"""Of type stream, with three events, all archived."""

_STATEMENTS: Final = (
    # Six months of usage: the current one and those ahead are there already.
    "SELECT usage_logs_create_partitions((now() AT TIME ZONE 'UTC' - interval '6 months')::date, 6)",
    """
    INSERT INTO users (username, email, password_hash, is_active)
    SELECT 'User' || n, 'User' || n || '@example.com', %(password_hash)s, n %% 50 <> 0
    FROM generate_series(1, 20000) AS n
    """,
    """
    INSERT INTO billing_accounts (user_id, subscription_tier, monthly_limit_gb)
    SELECT n, CASE WHEN n %% 10 = 0 THEN 'pro' ELSE 'free' END, 100
    FROM generate_series(1, 19000) AS n
    """,
    # A tenth of them expired, as after a day without maintenance.
    """
    INSERT INTO sessions (token_hash, user_id, device_id, created_at, expires_at)
    SELECT
        sha256(n::text::bytea),
        CASE WHEN n %% 10 = 1 THEN %(busy_user)s ELSE 1 + n %% 20000 END,
        'device ' || n,
        now() - interval '90 days' + n * interval '1 minute',
        now() - interval '1 day' + n * interval '30 seconds'
    FROM generate_series(1, 30000) AS n
    """,
    """
    INSERT INTO streams (user_id, name, stream_key, is_live, is_public, started_at)
    SELECT
        CASE WHEN n %% 7 = 0 THEN %(busy_user)s ELSE 1 + n %% 20000 END,
        'stream ' || n,
        lpad(n::text, 43, 'k'),
        n %% 100 = 0,
        n %% 300 <> 0,
        now() - interval '1 hour'
    FROM generate_series(1, 20000) AS n
    """,
    """
    INSERT INTO stream_sessions (stream_id, session_start, session_end, duration_seconds)
    SELECT
        CASE WHEN n %% 8 = 0 THEN %(busy_stream)s ELSE 1 + n %% 20000 END,
        now() - interval '2 days',
        now() - interval '1 day',
        86400
    FROM generate_series(1, 40000) AS n
    """,
    "INSERT INTO stream_sessions (stream_id, session_start) SELECT id, started_at FROM streams WHERE is_live",
    # One in twenty is kept for some time only, of those half are past it.
    """
    INSERT INTO recordings (stream_id, session_id, file_path, created_at, expires_at)
    SELECT
        stream_id,
        id,
        'file ' || id,
        now() - interval '1 year',
        CASE WHEN id %% 20 = 1 THEN now() + (id - 20000) * interval '1 second' END
    FROM stream_sessions
    WHERE id %% 4 = 1
    """,
    """
    INSERT INTO recordings (stream_id, session_id, file_path)
    SELECT
        %(busy_stream)s,
        CASE WHEN n > 4000 THEN %(busy_session)s END,
        'part ' || n
    FROM generate_series(1, 8000) AS n
    """,
    """
    INSERT INTO usage_logs (user_id, created_at, stream_id, event_type, bytes_transferred)
    SELECT
        CASE WHEN n %% 10 = 1 THEN %(busy_user)s ELSE 1 + n %% 20000 END,
        -- The same number in each month, whatever day it is today.
        CASE months_ago
            WHEN 0 THEN month_start + (now() - month_start) * (n %% 1000) / 1000
            ELSE month_start + (n %% 27) * interval '1 day'
        END,
        CASE WHEN n %% 10 = 1 THEN %(busy_stream)s ELSE 1 + n %% 20000 END,
        'viewer_join',
        n
    FROM generate_series(1, 60000) AS n
    CROSS JOIN LATERAL (SELECT n / 10 %% 6 AS months_ago) AS counted
    CROSS JOIN LATERAL (
        SELECT
            (date_trunc('month', now() AT TIME ZONE 'UTC') - months_ago * interval '1 month')
            AT TIME ZONE 'UTC' AS month_start
    ) AS chosen
    """,
    """
    INSERT INTO aggregates (aggregate_id, aggregate_type, version)
    SELECT %(busy_aggregate)s, 'stream', 20000
    UNION ALL
    SELECT n::text, CASE WHEN n %% 2 = 0 THEN 'stream' ELSE 'user' END, 10
    FROM generate_series(1, 4000) AS n
    """,
    # As they come in: those of one aggregate lie among those of the others.
    """
    INSERT INTO event_log (aggregate_id, aggregate_type, version, event_type, event_data, user_id, timestamp)
    SELECT
        CASE WHEN n %% 3 = 0 THEN %(busy_aggregate)s ELSE aggregate::text END,
        CASE WHEN n %% 3 = 0 OR aggregate %% 2 = 0 THEN 'stream' ELSE 'user' END,
        CASE WHEN n %% 3 = 0 THEN n / 3 ELSE 1 + other / 4000 END,
        'ViewerJoined',
        '{"viewers": 1}',
        CASE WHEN n %% 60 = 1 THEN %(busy_user)s WHEN n %% 2 = 0 THEN 1 + n %% 20000 END,
        now() - (60001 - n) * interval '1 minute'
    FROM generate_series(1, 60000) AS n
    -- Two of three, counted from 0, go round the 4,000 others ten times.
    CROSS JOIN LATERAL (SELECT n - 1 - n / 3 AS other) AS counted
    CROSS JOIN LATERAL (SELECT 1 + other %% 4000 AS aggregate) AS chosen
    ORDER BY n
    """,
    "UPDATE aggregates SET is_closed = TRUE WHERE aggregate_id ~ '0$'",
    # Archived events come after those of the log: three of each aggregate.
    """
    INSERT INTO event_segments (
        aggregate_id, aggregate_type, first_version, last_version, first_position, last_position, event_count,
        positions, timestamps, user_ids, event_ids, are_repeatable, event_types, event_data, metadata
    )
    SELECT
        'old ' || n, 'stream', 1, 3, 60001 + 3 * n, 60003 + 3 * n, 3,
        ARRAY[60001 + 3 * n, 60002 + 3 * n, 60003 + 3 * n],
        array_fill(now() + n * interval '1 second', ARRAY[3]),
        ARRAY[NULL, 1 + n %% 20000, CASE WHEN n %% 100 = 0 THEN %(archived_user)s END],
        array_fill(gen_random_uuid(), ARRAY[3]),
        array_fill(FALSE, ARRAY[3]),
        array_fill('ViewerJoined'::text, ARRAY[3]),
        array_fill('{}'::jsonb, ARRAY[3]),
        array_fill(NULL::jsonb, ARRAY[3])
    FROM generate_series(1, 20000) AS n
    """,
    """
    INSERT INTO event_erased (
        position, version, operation, aggregate_id, aggregate_type, original_hash, erased_hash
    )
    SELECT 60001 + 3 * n, 1, 1 + n %% 2000, 'old ' || n, 'stream', sha256(''), sha256('')
    FROM generate_series(1, 20000) AS n
    """,
    """
    INSERT INTO event_erasures
    SELECT n, now(), 10, 10, n, n, 'r', NULL, '[]', '{}', sha256('') FROM generate_series(1, 2000) AS n
    """,
    # Up to some way before the end.
    """
    INSERT INTO event_seals (
        number, first_position, last_position, event_count, previous_hash, hash, positions, fingerprints
    )
    SELECT
        n, 30 * n - 29, 30 * n, 30, sha256(''), sha256(''),
        int8multirange(int8range(30 * n - 29, 30 * n + 1)), decode(repeat('00', 240), 'hex')
    FROM generate_series(1, 3000) AS n
    """,
    """
    INSERT INTO snapshots (aggregate_id, aggregate_type, version, position, schema_version, state)
    SELECT aggregate_id, aggregate_type, version, position, shape, '{}'
    FROM event_log
    CROSS JOIN generate_series(1, 2) AS shape
    WHERE version %% CASE aggregate_id WHEN %(busy_aggregate)s THEN 100 ELSE 10 END = 0
    """,
    # A hundred that are free, but for the first of eight partitions, and one of a thousand members.
    """
    INSERT INTO subscriptions (name, partition, partitions, position, owner, lease_expires_at)
    SELECT
        'subscription ' || n,
        partition,
        8,
        59990,
        CASE WHEN partition = 0 THEN '00000000-0000-0000-0000-000000000001'::uuid END,
        CASE WHEN partition = 0 THEN now() + interval '1 day' END
    FROM generate_series(1, 1000) AS n
    CROSS JOIN generate_series(0, 7) AS partition
    """,
    """
    INSERT INTO subscription_members (name, member, expires_at)
    SELECT 'subscription ' || n, '00000000-0000-0000-0000-000000000001', now() + interval '1 day'
    FROM generate_series(1, 4000) AS n
    """,
    """
    INSERT INTO parked_events (
        name, position, partition, aggregate_type, aggregate_id, event_type, attempts, error_class, error_text
    )
    SELECT 'subscription ' || n %% 50, n, n %% 8, 'stream', n::text, 'E', 5, 'ValueError', 'no'
    FROM generate_series(1, 5000) AS n
    """,
    "INSERT INTO cache_invalidations (key) SELECT 'user:' || n FROM generate_series(1, 20000) AS n",
    """
    INSERT INTO queue_writers (writer, events_position, stats_batch)
    SELECT lpad(n::text, 32, '0')::uuid, 75000, 1000
    FROM generate_series(1, 4000) AS n
    """,
    """
    INSERT INTO rejected_events (writer, aggregate_type, aggregate_id, event_type, event_data, error_text)
    SELECT '00000000-0000-0000-0000-000000000001', 'stream', n::text, 'E', '{', 'is not JSON'
    FROM generate_series(1, 5000) AS n
    """,
    "ANALYZE",
)


def populate(connection: psycopg.Connection[TupleRow]) -> None:
    """Fills a migrated, empty database; `connection` is in autocommit."""
    values = {
        "password_hash": PASSWORD_HASH,
        "busy_user": BUSY_USER,
        "busy_stream": BUSY_STREAM,
        "busy_session": BUSY_SESSION,
        "busy_aggregate": BUSY_AGGREGATE,
        "archived_user": ARCHIVED_USER,
    }
    cursor = psycopg.ClientCursor(connection)  # some statements cannot have parameters of their own
    for statement in _STATEMENTS:
        cursor.execute(statement, values)
