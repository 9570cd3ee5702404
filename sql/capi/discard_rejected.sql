-- Takes an event that could not be stored out of those kept, and answers it.
DELETE FROM rejected_events
WHERE id = %(rejected_id)s::bigint
RETURNING
    id,
    user_id,
    rejected_at,
    writer,
    aggregate_type,
    aggregate_id,
    event_type,
    event_data,
    metadata,
    sqlstate,
    error_text
