-- Notes that a login session is being used, if it is good: not revoked, not expired, its user active.
UPDATE sessions
SET last_activity = greatest(sessions.last_activity, now())
FROM users
WHERE
    users.id = sessions.user_id
    AND users.is_active
    AND sessions.token_hash = %(token_hash)s::bytea
    AND sessions.is_active
    AND sessions.expires_at > now()
RETURNING
    sessions.token_hash,
    sessions.user_id,
    sessions.device_id,
    sessions.user_agent,
    host(sessions.ip_address) AS ip_address,
    sessions.created_at,
    sessions.expires_at,
    sessions.last_activity,
    sessions.is_active
