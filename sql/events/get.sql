-- The event of this version of an aggregate.
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
    AND version = %(version)s::bigint
UNION ALL
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
-- OFFSET 0, so that it is computed once and not for each column.
CROSS JOIN LATERAL (
    SELECT (%(version)s::bigint - segments.first_version + 1)::integer AS number
    OFFSET 0
) AS part
CROSS JOIN LATERAL unpack_events(segments, part.number, part.number) AS unpacked
WHERE segments.aggregate_id = %(aggregate_id)s::text
    AND segments.aggregate_type = %(aggregate_type)s::text
    AND segments.first_version <= %(version)s::bigint
    AND segments.last_version >= %(version)s::bigint
