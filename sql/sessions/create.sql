-- A new login session of an active user. No row: there is no such user, or it is inactive.
-- rootstream: null device_id, user_agent, ip_address
WITH active_user AS (
    SELECT id
    FROM users
    WHERE id = %(user_id)s::bigint AND is_active
    -- A deactivation under way is waited for; one that comes later waits for us and then sees this session.
    FOR SHARE
)
INSERT INTO sessions (token_hash, user_id, device_id, user_agent, ip_address, expires_at)
SELECT
    %(token_hash)s::bytea,
    id,
    %(device_id)s::text,
    %(user_agent)s::text,
    %(ip_address)s::inet,
    now() + %(lifetime)s::interval
FROM active_user
RETURNING
    token_hash,
    user_id,
    device_id,
    user_agent,
    host(ip_address) AS ip_address,
    created_at,
    expires_at,
    last_activity,
    is_active
