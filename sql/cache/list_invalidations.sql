-- Keys that committed changes made untrue and that nobody has removed from Redis yet, oldest first, from after an id on.
SELECT
    id,
    key
FROM cache_invalidations
WHERE id > %(after_id)s::bigint
ORDER BY id
LIMIT %(limit)s::bigint
