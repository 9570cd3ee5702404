-- Removes a subscription with its parked events; no row while a member reads.
WITH
-- every partition, or none when one is leased
removed AS (
    DELETE FROM subscriptions
    WHERE name = %(name)s::text
        AND NOT EXISTS (
            SELECT
            FROM subscriptions AS leased
            WHERE leased.name = %(name)s::text
                AND leased.lease_expires_at > clock_timestamp()
        )
    RETURNING partition
),

unparked AS (
    DELETE FROM parked_events
    WHERE name = %(name)s::text
        AND EXISTS (SELECT FROM removed)
)

SELECT partition
FROM removed
