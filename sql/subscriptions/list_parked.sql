-- The events that a subscription has parked, by position, after one of them.
SELECT
    name,
    position,
    partition,
    aggregate_type,
    aggregate_id,
    event_type,
    attempts,
    error_class,
    error_text,
    parked_at
FROM parked_events
WHERE name = %(name)s::text
    AND position > %(after_position)s::bigint
ORDER BY position
LIMIT %(limit)s::bigint
