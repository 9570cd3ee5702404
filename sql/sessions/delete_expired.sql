-- Deletes expired login sessions, so many at once that no lock is held for long.
DELETE FROM sessions
WHERE token_hash IN (
    SELECT token_hash
    FROM sessions
    WHERE expires_at <= now()
    ORDER BY expires_at
    LIMIT %(batch)s::bigint
)
