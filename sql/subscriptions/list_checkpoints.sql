-- The checkpoints of a subscription, one a partition; no row when it was never started.
SELECT
    name,
    partition,
    partitions,
    position,
    owner,
    lease_expires_at,
    coalesce(lease_expires_at > clock_timestamp(), FALSE) AS is_leased,
    failed_position,
    attempts,
    last_error,
    updated_at
FROM subscriptions
WHERE name = %(name)s::text
ORDER BY partition
