-- Takes an event out of those parked; whoever else does so at the same time waits, and gets no row.
DELETE FROM parked_events
WHERE name = %(name)s::text
    AND position = %(position)s::bigint
RETURNING
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
