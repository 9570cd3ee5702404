-- Forgets invalidations whose keys were removed from Redis. Those that somebody else is forgetting just now are left.
WITH invalidation_to_forget AS (
    SELECT id
    FROM cache_invalidations
    WHERE id = ANY(%(ids)s::bigint [])
    FOR UPDATE SKIP LOCKED
)
DELETE FROM cache_invalidations
USING invalidation_to_forget
WHERE cache_invalidations.id = invalidation_to_forget.id
