-- Sets a subscription to one position, in all its partitions; no row while a member reads, unless forced.
WITH
-- every partition, or none when one is leased
moved AS (
    UPDATE subscriptions
    SET position = %(position)s::bigint,
        failed_position = 0,
        attempts = 0,
        last_error = NULL,
        updated_at = clock_timestamp()
    WHERE name = %(name)s::text
        AND (
            %(force)s::boolean
            OR NOT EXISTS (
                SELECT
                FROM subscriptions AS leased
                WHERE leased.name = %(name)s::text
                    AND leased.lease_expires_at > clock_timestamp()
            )
        )
    RETURNING partition
),

-- what is delivered again is not parked any more
unparked AS (
    DELETE FROM parked_events
    WHERE name = %(name)s::text
        AND position > %(position)s::bigint
        AND EXISTS (SELECT FROM moved)
)

SELECT partition
FROM moved
