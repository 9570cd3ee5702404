-- Moves the checkpoint of a writer past a batch and the head rows of its aggregates on by what is about to be written to
-- them. Answers their versions in the order given, 0 for an aggregate that is closed; is_mine false, and nothing is moved,
-- where the checkpoint is not where the writer left it.
WITH checkpoint AS (
    UPDATE queue_writers
    SET
        events_position = %(to_position)s::bigint,
        updated_at = now()
    WHERE writer = %(writer)s::uuid AND events_position = %(from_position)s::bigint
    RETURNING writer
),
given AS (
    SELECT
        aggregates_given.aggregate_id,
        aggregates_given.aggregate_type,
        aggregates_given.event_count,
        aggregates_given.number
    FROM
        ROWS FROM (
            unnest(%(aggregate_ids)s::text[]),
            unnest(%(aggregate_types)s::text[]),
            unnest(%(counts)s::bigint[])
        ) WITH ORDINALITY AS aggregates_given (aggregate_id, aggregate_type, event_count, number)
    WHERE EXISTS (SELECT FROM checkpoint)
),
moved AS (
    INSERT INTO aggregates AS a (aggregate_id, aggregate_type, version)
    SELECT
        given.aggregate_id,
        given.aggregate_type,
        given.event_count
    FROM given
    -- In one order, so that no two of these wait for each other.
    ORDER BY given.aggregate_id, given.aggregate_type
    ON CONFLICT (aggregate_id, aggregate_type) DO UPDATE
    SET version = a.version + excluded.version
    WHERE NOT a.is_closed
    RETURNING
        aggregate_id,
        aggregate_type,
        version
)
SELECT
    coalesce(array_agg(coalesce(moved.version, 0) ORDER BY given.number), '{}') AS versions,
    EXISTS (SELECT FROM checkpoint) AS is_mine,
    -- Taken after the last head row is locked, so that times never run backwards within an aggregate.
    (extract(EPOCH FROM clock_timestamp()) * 1000000)::bigint AS moved_at_us
FROM given
LEFT JOIN moved
    ON given.aggregate_id = moved.aggregate_id AND given.aggregate_type = moved.aggregate_type
