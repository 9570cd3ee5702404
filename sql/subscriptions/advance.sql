-- Moves a checkpoint on and locks it until the commit; no row when the partition has gone to another member or was moved.
UPDATE subscriptions
SET position = %(to_position)s::bigint,
    lease_expires_at = clock_timestamp() + %(lease)s::interval,
    failed_position = 0,
    attempts = 0,
    last_error = NULL,
    updated_at = clock_timestamp()
WHERE name = %(name)s::text
    AND partition = %(partition)s::bigint
    AND owner = %(owner)s::uuid
    AND position = %(position)s::bigint
