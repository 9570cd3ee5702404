-- The good login sessions of a user, newest first, from the one before (before_created_at, before_hash) on; null: from
-- the newest.
SELECT
    sessions.token_hash,
    sessions.user_id,
    sessions.device_id,
    sessions.user_agent,
    host(sessions.ip_address) AS ip_address,
    sessions.created_at,
    sessions.expires_at,
    sessions.last_activity,
    sessions.is_active
FROM sessions
JOIN users ON users.id = sessions.user_id
WHERE
    sessions.user_id = %(user_id)s::bigint
    AND sessions.is_active
    AND sessions.expires_at > now()
    AND users.is_active
    AND (
        %(before_created_at)s::timestamptz IS NULL
        OR (sessions.created_at, sessions.token_hash) < (%(before_created_at)s::timestamptz, %(before_hash)s::bytea)
    )
ORDER BY sessions.created_at DESC, sessions.token_hash DESC
LIMIT %(limit)s::bigint
