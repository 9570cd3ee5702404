-- The event at one position, wherever it is kept.
SELECT
    event_position AS position,
    aggregate_type,
    aggregate_id,
    version
FROM list_event_hashes(%(position)s::bigint, %(position)s::bigint)
LIMIT 1
