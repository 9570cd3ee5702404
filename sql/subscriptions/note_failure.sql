-- Counts a failed attempt at an event; no row when the partition has gone to another member or was moved.
UPDATE subscriptions
SET attempts = CASE WHEN failed_position = %(failed_position)s::bigint THEN attempts + 1 ELSE 1 END,
    failed_position = %(failed_position)s::bigint,
    last_error = left(%(error)s::text, 1000),
    lease_expires_at = clock_timestamp() + %(lease)s::interval,
    updated_at = clock_timestamp()
WHERE name = %(name)s::text
    AND partition = %(partition)s::bigint
    AND owner = %(owner)s::uuid
    AND position = %(position)s::bigint
RETURNING attempts
