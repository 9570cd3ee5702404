-- An aggregate's archived events after one version up to and including another, as one JSON array of arrays; null when there are none.
SELECT
    json_agg(
        json_build_array(
            event.position,
            event.version,
            event.event_type,
            event.event_id,
            event.event_data,
            event.metadata,
            event.user_id,
            event.timestamp
        )
        ORDER BY event.version
    )::text AS events
FROM (
    SELECT
        unpacked.position,
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
            (greatest(%(after_version)s::bigint - segments.first_version + 1, 0) + 1)::integer AS from_number,
            least(%(to_version)s::bigint - segments.first_version + 1, segments.event_count)::integer AS to_number
        OFFSET 0
    ) AS part
    CROSS JOIN LATERAL unpack_events(segments, part.from_number, part.to_number) AS unpacked
    WHERE segments.aggregate_id = %(aggregate_id)s::text
        AND segments.aggregate_type = %(aggregate_type)s::text
        AND segments.first_version <= %(to_version)s::bigint
        AND segments.last_version > %(after_version)s::bigint
    -- Segment by segment, no further than the limit asks for.
    ORDER BY segments.first_version ASC, unpacked.version ASC
    LIMIT %(limit)s::bigint
) AS event
