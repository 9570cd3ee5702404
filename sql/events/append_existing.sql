-- Appends an event to an aggregate that has some, whatever its version; no row when it has none or is closed.
-- rootstream: null metadata, user_id
WITH
-- the head row, moved on; whoever else appends to the aggregate waits here
head AS (
    UPDATE aggregates
    SET version = version + 1
    WHERE aggregate_id = %(aggregate_id)s::text
        AND aggregate_type = %(aggregate_type)s::text
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
