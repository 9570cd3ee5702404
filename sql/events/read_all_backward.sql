-- Events of the whole log after one position up to and including another, the newest first.
-- rootstream: null aggregate_type, event_types, since
WITH RECURSIVE
-- The range in stretches from its end, each twice as wide as the one before, so that segments are unpacked only when the
-- stretches before have not filled the limit.
stretches (low, high, width) AS (
    SELECT
        greatest(%(to_position)s::bigint - 1000, %(after_position)s::bigint),
        %(to_position)s::bigint,
        1000::bigint
    WHERE %(to_position)s::bigint > %(after_position)s::bigint
    UNION ALL
    SELECT
        greatest(low - 2 * width, %(after_position)s::bigint),
        low,
        2 * width
    FROM stretches
    WHERE low > %(after_position)s::bigint
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
        ORDER BY position DESC
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
            AND (%(since)s::timestamptz IS NULL OR unpacked.timestamp >= %(since)s::timestamptz)
        ORDER BY unpacked.position DESC
        LIMIT %(limit)s::bigint
    )
    ORDER BY position DESC
    LIMIT %(limit)s::bigint
) AS events
LIMIT %(limit)s::bigint
