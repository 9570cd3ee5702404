-- Events of one partition after one position up to and including another, in the order of their positions.
-- rootstream: null aggregate_type, event_types
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
    AND (
        %(partitions)s::bigint = 1
        OR event_partition(aggregate_type, aggregate_id, %(partitions)s::bigint) = %(partition)s::bigint
    )
ORDER BY position ASC
LIMIT %(limit)s::bigint
