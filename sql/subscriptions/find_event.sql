-- The event at one position of the log, archived or not.
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
WHERE position = %(position)s::bigint
UNION ALL
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
FROM event_log_archived
WHERE covers @> %(position)s::bigint
    AND position = %(position)s::bigint
