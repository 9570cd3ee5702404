-- Appends an event to an aggregate at whatever version it is, from version 1 where it has none; no row when it is closed.
-- rootstream: null metadata, user_id
WITH
-- the head row, moved on or made; whoever else appends to the aggregate waits here
head AS (
    INSERT INTO aggregates AS a (aggregate_id, aggregate_type, version)
    VALUES (%(aggregate_id)s::text, %(aggregate_type)s::text, 1)
    ON CONFLICT (aggregate_id, aggregate_type) DO UPDATE
    SET version = a.version + excluded.version
    WHERE NOT a.is_closed
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
