-- An aggregate's events after one version up to and including another, newest first.
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
    AND version > %(after_version)s::bigint
    AND version <= %(to_version)s::bigint
ORDER BY version DESC
LIMIT %(limit)s::bigint
