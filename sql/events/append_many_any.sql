-- Appends events to an aggregate at whatever version it is, from version 1 where it has none; no row when it is closed or an id is known.
-- rootstream: null metadata
WITH
-- the head row, moved on or made; whoever else appends to the aggregate waits here
head AS (
    INSERT INTO aggregates AS a (aggregate_id, aggregate_type, version)
    SELECT
        %(aggregate_id)s::text,
        %(aggregate_type)s::text,
        %(count)s::bigint
    WHERE NOT (%(is_repeatable)s::boolean AND EXISTS (
        SELECT FROM event_log WHERE event_id = ANY(%(chosen_ids)s::uuid[]) AND is_repeatable
    ))
    ON CONFLICT (aggregate_id, aggregate_type) DO UPDATE
    SET version = a.version + excluded.version
    WHERE NOT a.is_closed
    RETURNING aggregate_id, aggregate_type, version - %(count)s::bigint AS base
)

INSERT INTO event_log (
    aggregate_id, aggregate_type, version, event_type, event_id, is_repeatable, event_data, metadata, user_id
)
SELECT
    head.aggregate_id,
    head.aggregate_type,
    head.base + given.ordinality,
    given.head ->> 0,
    (given.head ->> 1)::uuid,
    %(is_repeatable)s::boolean,
    given.event_data,
    nullif(given.metadata, 'null'::jsonb),
    (given.head ->> 2)::bigint
FROM head
-- head: the event's type, id and user
CROSS JOIN
    ROWS FROM (
        jsonb_array_elements(%(heads)s::jsonb),
        jsonb_array_elements(%(event_data)s::jsonb),
        jsonb_array_elements(%(metadata)s::jsonb)
    ) WITH ORDINALITY AS given (head, event_data, metadata, ordinality)
-- Positions are drawn in this order, after the head row is locked.
ORDER BY given.ordinality
RETURNING version, position, event_id, timestamp
