-- Keeps, takes and gives up partitions, so that a member has its share and no more; the rows are what it has now.
WITH
-- the member itself, alive for another while
me AS (
    INSERT INTO subscription_members (name, member, expires_at)
    VALUES (%(name)s::text, %(owner)s::uuid, clock_timestamp() + %(lease)s::interval)
    ON CONFLICT (name, member) DO UPDATE
    SET expires_at = excluded.expires_at
    RETURNING member, expires_at
),

-- members that have not been heard of for long
gone AS (
    SELECT member
    FROM subscription_members
    WHERE name = %(name)s::text
        AND member <> %(owner)s::uuid
        AND expires_at < clock_timestamp()
    FOR UPDATE SKIP LOCKED
),

forgotten AS (
    DELETE FROM subscription_members
    WHERE name = %(name)s::text
        AND member IN (SELECT gone.member FROM gone)
),

-- how many partitions each may have
share AS (
    SELECT ceil((
        SELECT count(*)
        FROM subscriptions
        WHERE name = %(name)s::text
    ) / (1.0 + (
        SELECT count(*)
        FROM subscription_members
        WHERE name = %(name)s::text
            AND member <> %(owner)s::uuid
            AND expires_at >= clock_timestamp()
    )))::bigint AS partitions
),

-- its own first, then free ones; those that others work on just now are locked by them
wanted AS (
    SELECT partition
    FROM subscriptions
    WHERE name = %(name)s::text
        AND (owner = %(owner)s::uuid OR owner IS NULL OR lease_expires_at <= clock_timestamp())
    ORDER BY (owner IS NOT DISTINCT FROM %(owner)s::uuid) DESC, partition ASC
    LIMIT (SELECT share.partitions FROM share)
    FOR UPDATE SKIP LOCKED
),

-- what it has above its share
surplus AS (
    SELECT partition
    FROM subscriptions
    WHERE name = %(name)s::text
        AND owner = %(owner)s::uuid
        AND partition NOT IN (SELECT wanted.partition FROM wanted)
    FOR UPDATE SKIP LOCKED
),

freed AS (
    UPDATE subscriptions
    SET owner = NULL,
        lease_expires_at = NULL
    WHERE name = %(name)s::text
        AND partition IN (SELECT surplus.partition FROM surplus)
)

UPDATE subscriptions
SET owner = me.member,
    lease_expires_at = me.expires_at
FROM me
WHERE subscriptions.name = %(name)s::text
    AND subscriptions.partition IN (SELECT wanted.partition FROM wanted)
RETURNING
    subscriptions.name,
    subscriptions.partition,
    subscriptions.partitions,
    subscriptions.position,
    subscriptions.owner,
    subscriptions.lease_expires_at,
    TRUE AS is_leased,
    subscriptions.failed_position,
    subscriptions.attempts,
    subscriptions.last_error,
    subscriptions.updated_at
