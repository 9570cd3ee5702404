-- Appends events to several aggregates, all of them or, unless is_atomic, to those whose version is the expected one; no row for one that is refused.
-- rootstream: null metadata
WITH
-- each aggregate once; expected -1: any version, -2: at least one event; its events come after event_offset others
wanted AS MATERIALIZED (
    SELECT
        given.ordinality AS number,
        given.aggregate_id,
        given.aggregate_type,
        given.expected,
        given.event_count,
        sum(given.event_count) OVER (ORDER BY given.ordinality) - given.event_count AS event_offset
    FROM
        ROWS FROM (
            unnest(%(aggregate_ids)s::text[]),
            unnest(%(aggregate_types)s::text[]),
            unnest(%(expected)s::bigint[]),
            unnest(%(counts)s::bigint[])
        ) WITH ORDINALITY AS given (aggregate_id, aggregate_type, expected, event_count, ordinality)
),

-- the head rows there are, locked in one order, so that no two of these wait for each other
locked AS MATERIALIZED (
    SELECT
        aggregates.aggregate_id,
        aggregates.aggregate_type,
        aggregates.version,
        aggregates.is_closed
    FROM wanted
    INNER JOIN aggregates
        ON aggregates.aggregate_id = wanted.aggregate_id AND aggregates.aggregate_type = wanted.aggregate_type
    ORDER BY aggregates.aggregate_id, aggregates.aggregate_type
    FOR UPDATE OF aggregates
),

judged AS MATERIALIZED (
    SELECT
        wanted.number,
        wanted.aggregate_id,
        wanted.aggregate_type,
        wanted.event_count,
        wanted.event_offset,
        locked.version IS NOT NULL AS is_there,
        NOT coalesce(locked.is_closed, FALSE) AND CASE wanted.expected
            WHEN -1 THEN TRUE
            WHEN -2 THEN locked.version IS NOT NULL
            ELSE coalesce(locked.version, 0) = wanted.expected
        END AS is_met
    FROM wanted
    LEFT JOIN locked
        ON locked.aggregate_id = wanted.aggregate_id AND locked.aggregate_type = wanted.aggregate_type
),

accepted AS MATERIALIZED (
    SELECT
        judged.number,
        judged.aggregate_id,
        judged.aggregate_type,
        judged.event_count,
        judged.event_offset,
        judged.is_there
    FROM judged
    WHERE judged.is_met
        AND NOT (%(is_atomic)s::boolean AND EXISTS (SELECT FROM judged AS other WHERE NOT other.is_met))
        AND NOT (%(is_repeatable)s::boolean AND EXISTS (
            SELECT FROM event_log WHERE event_id = ANY(%(chosen_ids)s::uuid[]) AND is_repeatable
        ))
),

moved AS (
    UPDATE aggregates
    SET version = aggregates.version + accepted.event_count
    FROM accepted
    WHERE aggregates.aggregate_id = accepted.aggregate_id
        AND aggregates.aggregate_type = accepted.aggregate_type
        AND accepted.is_there
    RETURNING
        accepted.number,
        aggregates.aggregate_id,
        aggregates.aggregate_type,
        -- the version that the first of all events given, of whatever aggregate, would have had before
        aggregates.version - accepted.event_count - accepted.event_offset AS base
),

-- not ON CONFLICT: where somebody else makes the same one just now, nothing may be done, and the caller tries again
made AS (
    INSERT INTO aggregates (aggregate_id, aggregate_type, version)
    SELECT
        aggregate_id,
        aggregate_type,
        event_count
    FROM accepted
    WHERE NOT is_there
    ORDER BY aggregate_id, aggregate_type
    RETURNING aggregate_id, aggregate_type
),

heads AS (
    SELECT
        number,
        aggregate_id,
        aggregate_type,
        base
    FROM moved
    UNION ALL
    SELECT
        accepted.number,
        made.aggregate_id,
        made.aggregate_type,
        - accepted.event_offset AS base
    FROM made
    INNER JOIN accepted
        ON accepted.aggregate_id = made.aggregate_id AND accepted.aggregate_type = made.aggregate_type
)

INSERT INTO event_log (
    aggregate_id, aggregate_type, version, event_type, event_id, is_repeatable, event_data, metadata, user_id
)
SELECT
    heads.aggregate_id,
    heads.aggregate_type,
    heads.base + given.ordinality,
    given.head ->> 0,
    (given.head ->> 1)::uuid,
    %(is_repeatable)s::boolean,
    given.event_data,
    nullif(given.metadata, 'null'::jsonb),
    (given.head ->> 2)::bigint
FROM heads
-- head: the event's type, id and user, and the number of its aggregate
INNER JOIN
    ROWS FROM (
        jsonb_array_elements(%(heads)s::jsonb),
        jsonb_array_elements(%(event_data)s::jsonb),
        jsonb_array_elements(%(metadata)s::jsonb)
    ) WITH ORDINALITY AS given (head, event_data, metadata, ordinality)
    ON (given.head ->> 3)::bigint = heads.number
-- Positions are drawn in this order, after the head rows are locked.
ORDER BY given.ordinality
RETURNING aggregate_id, aggregate_type, version, position, event_id, timestamp
