-- Closed aggregates, from one on in the order of type and id, all of whose live events lie before a time and up to a position.
-- rootstream: null aggregate_type
SELECT
    heads.aggregate_id,
    heads.aggregate_type
FROM aggregates AS heads
-- The last event that is still in the log; none where all are archived.
CROSS JOIN LATERAL (
    SELECT
        event_log.timestamp,
        event_log.position
    FROM event_log
    WHERE event_log.aggregate_id = heads.aggregate_id
        AND event_log.aggregate_type = heads.aggregate_type
    ORDER BY event_log.version DESC
    LIMIT 1
) AS newest
WHERE heads.is_closed
    AND (heads.aggregate_type, heads.aggregate_id) > (%(after_type)s::text, %(after_id)s::text)
    AND (%(aggregate_type)s::text IS NULL OR heads.aggregate_type = %(aggregate_type)s::text)
    AND newest.timestamp < %(before)s::timestamptz
    AND newest.position <= %(to_position)s::bigint
ORDER BY heads.aggregate_type ASC, heads.aggregate_id ASC
LIMIT %(limit)s::bigint
