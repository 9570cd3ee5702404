-- The good login sessions of a user, newest first, from the one before (before_created_at, before_hash) on; null: from
-- the newest.
-- rootstream: null before_created_at, before_hash
SELECT
    token_hash,
    user_id,
    device_id,
    user_agent,
    host(ip_address) AS ip_address,
    created_at,
    expires_at,
    last_activity,
    is_active
FROM sessions
WHERE
    user_id = %(user_id)s::bigint
    AND is_active
    AND expires_at > now()
    -- Not "is null or": a bound that is always there makes every page a range of the index.
    AND (created_at, token_hash)
    < (coalesce(%(before_created_at)s::timestamptz, 'infinity'), coalesce(%(before_hash)s::bytea, ''))
    -- Not a join: asked once, and not again for every session.
    AND EXISTS (
        SELECT 1
        FROM users
        WHERE users.id = %(user_id)s::bigint AND users.is_active
    )
ORDER BY created_at DESC, token_hash DESC
LIMIT %(limit)s::bigint
