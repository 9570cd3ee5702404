-- Notes a login by a checked password, and stores the stronger hash of that password where there is one. No row: since
-- the check, the password was changed or the user deactivated or deleted.
-- rootstream: null stronger_hash
UPDATE users
SET
    last_login_at = now(),
    password_hash = coalesce(%(stronger_hash)s::text, password_hash)
WHERE id = %(user_id)s::bigint AND password_hash = %(checked_hash)s::text AND is_active
RETURNING
    id,
    username,
    email,
    display_name,
    avatar_url,
    is_verified,
    is_active,
    created_at,
    updated_at,
    last_login_at
