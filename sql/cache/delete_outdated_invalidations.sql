-- Forgets invalidations that are older than any cached answer can be, so many at once: where no store has a Redis,
-- nobody else does.
DELETE FROM cache_invalidations
-- An array: for a subquery the planner, not knowing how many there are, would read the whole table.
WHERE id = ANY(ARRAY(
    SELECT id
    FROM cache_invalidations
    ORDER BY id
    LIMIT %(batch)s::bigint
))
AND created_at < now() - %(age)s::interval
