-- Replaces the password hash.
UPDATE users
SET password_hash = %(password_hash)s::text
WHERE id = %(user_id)s::bigint
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
