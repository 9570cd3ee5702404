-- Writes events whose head rows are moved already, in bulk.
COPY event_log (
    aggregate_id,
    aggregate_type,
    version,
    event_type,
    event_id,
    is_repeatable,
    event_data,
    metadata,
    user_id,
    timestamp
) FROM STDIN (FORMAT binary)
