-- Keys that committed changes made untrue and that nobody has removed from Redis yet, oldest first.
SELECT
    id,
    key
FROM cache_invalidations
ORDER BY id
LIMIT %(limit)s::bigint
