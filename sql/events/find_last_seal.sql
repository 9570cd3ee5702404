-- The newest seal.
SELECT
    number,
    first_position,
    last_position,
    event_count,
    hash,
    sealed_at
FROM event_seals
ORDER BY number DESC
LIMIT 1
