-- The login session of this token, if it is good: not revoked, not expired, its user active.
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
    sessions.token_hash = %(token_hash)s::bytea
    AND sessions.is_active
    AND sessions.expires_at > now()
    AND users.is_active
