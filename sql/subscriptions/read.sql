-- Events of one partition after one position up to and including another, in the order of their positions.
-- rootstream: null aggregate_type, event_types
WITH RECURSIVE
-- The range in stretches: up to where the next segment begins or, within segments, a thousand positions at a time, so that
-- little is unpacked and only when the stretches before have not filled the limit.
stretches (low, high) AS (
    SELECT
        bounds.low,
        CASE
            WHEN EXISTS (
                SELECT 1
                FROM event_segments
                WHERE int8range(first_position, last_position, '[]') @> bounds.low + 1
            ) THEN bounds.low + least(%(to_position)s::bigint - bounds.low, 1000)
            ELSE coalesce((
                SELECT first_position - 1
                FROM event_segments
                WHERE first_position > bounds.low
                    AND first_position <= %(to_position)s::bigint
                ORDER BY first_position ASC
                LIMIT 1
            ), %(to_position)s::bigint)
        END AS high
    FROM (SELECT greatest(%(after_position)s::bigint, 0) AS low) AS bounds
    WHERE bounds.low < %(to_position)s::bigint
    UNION ALL
    SELECT
        stretches.high,
        CASE
            WHEN EXISTS (
                SELECT 1
                FROM event_segments
                WHERE int8range(first_position, last_position, '[]') @> stretches.high + 1
            ) THEN stretches.high + least(%(to_position)s::bigint - stretches.high, 1000)
            ELSE coalesce((
                SELECT first_position - 1
                FROM event_segments
                WHERE first_position > stretches.high
                    AND first_position <= %(to_position)s::bigint
                ORDER BY first_position ASC
                LIMIT 1
            ), %(to_position)s::bigint)
        END
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
            AND (
                %(partitions)s::bigint = 1
                OR event_partition(aggregate_type, aggregate_id, %(partitions)s::bigint) = %(partition)s::bigint
            )
        ORDER BY position ASC
        LIMIT %(limit)s::bigint
    )
    UNION ALL
    (
        SELECT
            unpacked.position,
            segments.aggregate_id,
            segments.aggregate_type,
            unpacked.version,
            unpacked.event_type,
            unpacked.event_id,
            unpacked.event_data,
            unpacked.metadata,
            unpacked.user_id,
            unpacked.timestamp
        FROM event_segments AS segments
        -- Positions ascend within a segment: only those of the stretch are unpacked. OFFSET 0, so that they are looked
        -- for once and not for each column.
        CROSS JOIN LATERAL (
            SELECT
                width_bucket(stretches.low, segments.positions) + 1 AS from_number,
                width_bucket(stretches.high, segments.positions) AS to_number
            OFFSET 0
        ) AS part
        CROSS JOIN LATERAL unpack_events(segments, part.from_number, part.to_number) AS unpacked
        WHERE int8range(segments.first_position, segments.last_position, '[]')
            && int8range(stretches.low, nullif(stretches.high, 9223372036854775807), '(]')
            AND (%(aggregate_type)s::text IS NULL OR segments.aggregate_type = %(aggregate_type)s::text)
            AND (%(event_types)s::text[] IS NULL OR unpacked.event_type = ANY(%(event_types)s::text[]))
            AND (
                %(partitions)s::bigint = 1
                OR event_partition(segments.aggregate_type, segments.aggregate_id, %(partitions)s::bigint)
                = %(partition)s::bigint
            )
        ORDER BY unpacked.position ASC
        LIMIT %(limit)s::bigint
    )
    ORDER BY position ASC
    LIMIT %(limit)s::bigint
) AS events
LIMIT %(limit)s::bigint
