-- Moves the head rows of aggregates on by what is about to be written to them, or makes them; no row for one that is closed.
INSERT INTO aggregates AS a (aggregate_id, aggregate_type, version)
SELECT
    given.aggregate_id,
    given.aggregate_type,
    given.event_count
FROM
    ROWS FROM (
        unnest(%(aggregate_ids)s::text[]),
        unnest(%(aggregate_types)s::text[]),
        unnest(%(counts)s::bigint[])
    ) AS given (aggregate_id, aggregate_type, event_count)
-- In one order, so that no two of these wait for each other.
ORDER BY given.aggregate_id, given.aggregate_type
ON CONFLICT (aggregate_id, aggregate_type) DO UPDATE
SET version = a.version + excluded.version
WHERE NOT a.is_closed
RETURNING
    aggregate_id,
    aggregate_type,
    version,
    clock_timestamp() AS moved_at
