-- Appends events to an aggregate at exactly this version; no row when it is at another one or closed, or an id is known.
-- rootstream: null metadata
WITH
-- the head row, moved on; none when another writer came first, and no error
head AS (
    UPDATE aggregates
    SET version = version + %(count)s::bigint
    WHERE aggregate_id = %(aggregate_id)s::text
        AND aggregate_type = %(aggregate_type)s::text
        AND version = %(expected)s::bigint
        AND NOT is_closed
        AND NOT (%(is_repeatable)s::boolean AND EXISTS (
            SELECT FROM event_log WHERE event_id = ANY(%(chosen_ids)s::uuid[]) AND is_repeatable
        ))
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
