-- An aggregate's events after one version up to and including another, newest first.
-- rootstream: null event_types, since
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
    WHERE aggregate_id = %(aggregate_id)s::text
        AND aggregate_type = %(aggregate_type)s::text
        AND version > %(after_version)s::bigint
        AND version <= %(to_version)s::bigint
        AND (%(event_types)s::text[] IS NULL OR event_type = ANY(%(event_types)s::text[]))
        AND (%(since)s::timestamptz IS NULL OR timestamp >= %(since)s::timestamptz)
    ORDER BY version DESC
    LIMIT %(limit)s::bigint
)
UNION ALL
-- Archived: segment by segment, no further than the limit asks for.
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
    -- OFFSET 0, so that these are computed once and not for each column.
    CROSS JOIN LATERAL (
        SELECT
            (greatest(greatest(%(after_version)s::bigint, 0) - segments.first_version + 1, 0) + 1)::integer AS from_number,
            least(%(to_version)s::bigint - segments.first_version + 1, segments.event_count)::integer AS to_number
        OFFSET 0
    ) AS part
    CROSS JOIN LATERAL unpack_events(segments, part.from_number, part.to_number) AS unpacked
    WHERE segments.aggregate_id = %(aggregate_id)s::text
        AND segments.aggregate_type = %(aggregate_type)s::text
        AND segments.first_version <= %(to_version)s::bigint
        AND segments.last_version > %(after_version)s::bigint
        AND (%(event_types)s::text[] IS NULL OR unpacked.event_type = ANY(%(event_types)s::text[]))
        AND (%(since)s::timestamptz IS NULL OR unpacked.timestamp >= %(since)s::timestamptz)
    ORDER BY segments.first_version DESC, unpacked.version DESC
    LIMIT %(limit)s::bigint
)
ORDER BY version DESC
LIMIT %(limit)s::bigint
