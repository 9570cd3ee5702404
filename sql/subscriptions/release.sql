-- A member leaves: its partitions are free at once.
WITH
-- no longer counted when the partitions are shared out
gone AS (
    DELETE FROM subscription_members
    WHERE name = %(name)s::text
        AND member = %(owner)s::uuid
)

UPDATE subscriptions
SET owner = NULL,
    lease_expires_at = NULL
WHERE name = %(name)s::text
    AND owner = %(owner)s::uuid
