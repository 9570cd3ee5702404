-- Appends an event to an aggregate that has none yet; no row when it has.
-- rootstream: null metadata, user_id
WITH
-- the head row, made; none when it is there, and no error
head AS (
    INSERT INTO aggregates (aggregate_id, aggregate_type, version)
    VALUES (%(aggregate_id)s::text, %(aggregate_type)s::text, 1)
    ON CONFLICT (aggregate_id, aggregate_type) DO NOTHING
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
