-- Events of native code that could not be stored, the oldest first, from after an id on.
SELECT
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
FROM rejected_events
WHERE id > %(after_id)s::bigint
ORDER BY id
LIMIT %(limit)s::bigint
