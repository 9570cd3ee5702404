-- An aggregate's events after one version up to and including another, oldest first.
-- rootstream: null event_types, since
(
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
        AND (%(event_types)s::text[] IS NULL OR event_type = ANY(%(event_types)s::text[]))
        AND (%(since)s::timestamptz IS NULL OR timestamp >= %(since)s::timestamptz)
    ORDER BY version ASC
    LIMIT %(limit)s::bigint
)
UNION ALL
-- Archived: segment by segment, no further than the limit asks for.
(
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
    WHERE aggregate_id = %(aggregate_id)s::text
        AND aggregate_type = %(aggregate_type)s::text
        AND first_version <= %(to_version)s::bigint
        AND last_version > %(after_version)s::bigint
        AND version > %(after_version)s::bigint
        AND version <= %(to_version)s::bigint
        AND (%(event_types)s::text[] IS NULL OR event_type = ANY(%(event_types)s::text[]))
        AND (%(since)s::timestamptz IS NULL OR timestamp >= %(since)s::timestamptz)
    ORDER BY first_version ASC, version ASC
    LIMIT %(limit)s::bigint
)
ORDER BY version ASC
LIMIT %(limit)s::bigint
