-- Appends an event to an aggregate at exactly this version; no row when it is at another one or closed.
-- rootstream: null metadata, user_id
WITH
-- the head row, moved on; none when another writer came first, and no error
head AS (
    UPDATE aggregates
    SET version = version + 1
    WHERE aggregate_id = %(aggregate_id)s::text
        AND aggregate_type = %(aggregate_type)s::text
        AND version = %(expected)s::bigint
        AND NOT is_closed
    RETURNING aggregate_id, aggregate_type, version
)

INSERT INTO event_log (aggregate_id, aggregate_type, version, event_type, event_id, event_data, metadata, user_id)
SELECT
    head.aggregate_id,
    head.aggregate_type,
    head.version,
    %(event_type)s::text,
    %(event_id)s::uuid,
    %(event_data)s::jsonb,
    %(metadata)s::jsonb,
    %(user_id)s::bigint
FROM head
RETURNING version, position, event_id, timestamp
