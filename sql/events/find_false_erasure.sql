-- The first erasure on record that the log does not tell of, or tells otherwise, or whose record is gone; no row when all agree.
WITH
-- what the log tells
told AS (
    SELECT
        version,
        event_data
    FROM event_log
    WHERE aggregate_id = 'erasures'
        AND aggregate_type = 'event_log'
        AND event_type = 'EventsErased'
    UNION ALL
    SELECT
        version,
        event_data
    FROM event_log_archived
    WHERE aggregate_id = 'erasures'
        AND aggregate_type = 'event_log'
        AND event_type = 'EventsErased'
),

-- what was erased by each operation
erased AS (
    SELECT
        operation,
        count(*) AS events,
        sha256(string_agg(original_hash || erased_hash, ''::bytea ORDER BY position)) AS digest
    FROM event_erased
    GROUP BY operation
),

-- the operations that there must be: they are numbered without gaps
numbers AS (
    SELECT
        generate_series(
            1,
            greatest((SELECT max(operation) FROM event_erasures), (SELECT max(operation) FROM event_erased))
        ) AS operation
)

SELECT
    numbers.operation,
    CASE
        WHEN erasures.operation IS NULL THEN 'it is not on record in event_erasures'
        WHEN told.version IS NULL THEN 'no event of the log tells of it'
        WHEN erased.operation IS NULL THEN 'its events are not on record in event_erased'
        ELSE 'its event in the log tells otherwise'
    END AS fault
FROM numbers
LEFT JOIN event_erasures AS erasures ON erasures.operation = numbers.operation
LEFT JOIN erased ON erased.operation = numbers.operation
LEFT JOIN told ON told.version = erasures.log_version
WHERE erasures.operation IS NULL
    OR erased.operation IS NULL
    OR told.version IS NULL
    OR erasures.event_count <> erased.events
    OR erasures.digest <> erased.digest
    OR told.event_data IS DISTINCT FROM jsonb_build_object(
        'operation', erasures.operation,
        'reason', erasures.reason,
        'requested_by', erasures.requested_by,
        'user_id', erasures.user_id,
        'aggregates', erasures.aggregates,
        'events', erasures.event_count,
        'positions', told.event_data -> 'positions',
        'digest', encode(erasures.digest, 'hex')
    )
ORDER BY numbers.operation ASC
LIMIT 1
