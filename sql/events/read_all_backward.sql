-- Events of the whole log after one position up to and including another, the newest first.
-- rootstream: null aggregate_type, event_types, since
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
WHERE position > %(after_position)s::bigint
    AND position <= %(to_position)s::bigint
    AND (%(aggregate_type)s::text IS NULL OR aggregate_type = %(aggregate_type)s::text)
    AND (%(event_types)s::text[] IS NULL OR event_type = ANY(%(event_types)s::text[]))
    AND (%(since)s::timestamptz IS NULL OR timestamp >= %(since)s::timestamptz)
ORDER BY position DESC
LIMIT %(limit)s::bigint
