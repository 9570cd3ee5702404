-- Deletes expired login sessions, so many at once that no lock is held for long.
DELETE FROM sessions
-- An array: for a subquery the planner, not knowing how many there are, would read the whole table.
WHERE token_hash = ANY (ARRAY(
    SELECT token_hash
    FROM sessions
    WHERE expires_at <= now()
    ORDER BY expires_at
    LIMIT %(batch)s::bigint
))
