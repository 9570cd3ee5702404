-- For each event of an append that may have been made before: what stands in its place in the log, and whether that is the same event.
-- rootstream: null expected, metadata
WITH
given AS MATERIALIZED (
    SELECT
        wanted.aggregate_id AS owner_id,
        wanted.aggregate_type AS owner_type,
        given.head ->> 0 AS event_type,
        (given.head ->> 1)::uuid AS event_id,
        (given.head ->> 2)::bigint AS user_id,
        given.event_data,
        given.metadata,
        given.ordinality
    FROM
        -- head: the event's type, id and user, and the number of its aggregate
        ROWS FROM (
            jsonb_array_elements(%(heads)s::jsonb),
            jsonb_array_elements(%(event_data)s::jsonb),
            jsonb_array_elements(%(metadata)s::jsonb)
        ) WITH ORDINALITY AS given (head, event_data, metadata, ordinality)
    INNER JOIN
        ROWS FROM (
            unnest(%(aggregate_ids)s::text[]),
            unnest(%(aggregate_types)s::text[])
        ) WITH ORDINALITY AS wanted (aggregate_id, aggregate_type, number)
        ON wanted.number = (given.head ->> 3)::bigint
),

-- by an id that the caller chose, which names its event wherever that is
by_id AS MATERIALIZED (
    SELECT DISTINCT ON (given.ordinality)
        given.ordinality,
        event_log.aggregate_id,
        event_log.aggregate_type,
        event_log.version
    FROM given
    INNER JOIN event_log ON event_log.event_id = given.event_id AND event_log.is_repeatable
    -- Two aggregates may have it, where two writers came at the same moment: then the own one counts.
    ORDER BY
        given.ordinality,
        event_log.aggregate_id = given.owner_id AND event_log.aggregate_type = given.owner_type DESC
),

-- by where the first known one of its aggregate stands, or by the version that was expected
placed AS MATERIALIZED (
    SELECT
        given.ordinality,
        coalesce(by_id.aggregate_id, given.owner_id) AS aggregate_id,
        coalesce(by_id.aggregate_type, given.owner_type) AS aggregate_type,
        coalesce(
            by_id.version,
            (
                SELECT known.version - known.ordinality
                FROM by_id AS known
                WHERE known.aggregate_id = given.owner_id
                    AND known.aggregate_type = given.owner_type
                ORDER BY known.ordinality
                LIMIT 1
            ) + given.ordinality,
            %(expected)s::bigint + given.ordinality
        ) AS version
    FROM given
    LEFT JOIN by_id ON by_id.ordinality = given.ordinality
)

SELECT
    given.ordinality AS number,
    event_log.aggregate_id,
    event_log.aggregate_type,
    event_log.version,
    event_log.position,
    event_log.event_id,
    event_log.timestamp,
    event_log.aggregate_id = given.owner_id
    AND event_log.aggregate_type = given.owner_type
    AND event_log.event_type = given.event_type
    AND (event_log.event_id = given.event_id OR given.event_id <> ALL(%(chosen_ids)s::uuid[]))
    AND event_log.user_id IS NOT DISTINCT FROM given.user_id
    AND event_log.event_data = given.event_data
    AND event_log.metadata IS NOT DISTINCT FROM nullif(given.metadata, 'null'::jsonb) AS is_same
FROM given
INNER JOIN placed ON placed.ordinality = given.ordinality
INNER JOIN event_log
    ON event_log.aggregate_id = placed.aggregate_id
        AND event_log.aggregate_type = placed.aggregate_type
        AND event_log.version = placed.version
ORDER BY given.ordinality
