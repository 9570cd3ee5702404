-- How many invalidations wait, counted up to a limit, and the age of the oldest in seconds (null: none waits).
SELECT
    count(*) AS waiting,
    extract(EPOCH FROM clock_timestamp() - min(waiting.created_at))::double precision AS oldest_seconds
FROM (
    SELECT created_at
    FROM cache_invalidations
    ORDER BY id
    LIMIT %(limit)s::bigint
) AS waiting
