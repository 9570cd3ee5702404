-- Events of the whole log after one position up to and including another, in the order of their positions.
-- rootstream: null aggregate_type, event_types, since
WITH RECURSIVE
-- The range in stretches, each up to where the next segment begins or, where one has begun, up to where ten more have: few
-- segments are unpacked at a time, and only when the stretches before have not filled the limit.
stretches (low, high) AS (
    SELECT
        %(after_position)s::bigint AS low,
        coalesce((
            SELECT first_position - 1
            FROM event_segments
            WHERE first_position > %(after_position)s::bigint
                AND first_position <= %(to_position)s::bigint
            ORDER BY first_position ASC
            OFFSET CASE
                WHEN EXISTS (
                    SELECT 1
                    FROM event_segments
                    WHERE int8range(first_position, last_position, '[]') @> %(after_position)s::bigint + 1
                ) THEN 10
                ELSE 0
            END
            LIMIT 1
        ), %(to_position)s::bigint) AS high
    WHERE %(after_position)s::bigint < %(to_position)s::bigint
    UNION ALL
    SELECT
        stretches.high,
        coalesce((
            SELECT first_position - 1
            FROM event_segments
            WHERE first_position > stretches.high
                AND first_position <= %(to_position)s::bigint
            ORDER BY first_position ASC
            OFFSET CASE
                WHEN EXISTS (
                    SELECT 1
                    FROM event_segments
                    WHERE int8range(first_position, last_position, '[]') @> stretches.high + 1
                ) THEN 10
                ELSE 0
            END
            LIMIT 1
        ), %(to_position)s::bigint)
    FROM stretches
    WHERE stretches.high < %(to_position)s::bigint
)

SELECT
    events.position,
    events.aggregate_id,
    events.aggregate_type,
    events.version,
    events.event_type,
    events.event_id,
    events.event_data,
    events.metadata,
    events.user_id,
    events.timestamp
FROM stretches
-- In the order of the stretches, and of the positions in each.
CROSS JOIN LATERAL (
    (
        SELECT
            position,
            aggregate_id,
            aggregate_type,
            version,
            event_type,
            event_id,
            event_data,
            metadata,
            user_id,
            timestamp
        FROM event_log
        WHERE position > stretches.low
            AND position <= stretches.high
            AND (%(aggregate_type)s::text IS NULL OR aggregate_type = %(aggregate_type)s::text)
            AND (%(event_types)s::text[] IS NULL OR event_type = ANY(%(event_types)s::text[]))
            AND (%(since)s::timestamptz IS NULL OR timestamp >= %(since)s::timestamptz)
        ORDER BY position ASC
        LIMIT %(limit)s::bigint
    )
    UNION ALL
    (
        SELECT
            position,
            aggregate_id,
            aggregate_type,
            version,
            event_type,
            event_id,
            event_data,
            metadata,
            user_id,
            timestamp
        FROM event_log_archived
        WHERE covers && int8range(stretches.low, nullif(stretches.high, 9223372036854775807), '(]')
            AND position > stretches.low
            AND position <= stretches.high
            AND (%(aggregate_type)s::text IS NULL OR aggregate_type = %(aggregate_type)s::text)
            AND (%(event_types)s::text[] IS NULL OR event_type = ANY(%(event_types)s::text[]))
            AND (%(since)s::timestamptz IS NULL OR timestamp >= %(since)s::timestamptz)
        ORDER BY position ASC
        LIMIT %(limit)s::bigint
    )
    ORDER BY position ASC
    LIMIT %(limit)s::bigint
) AS events
LIMIT %(limit)s::bigint
