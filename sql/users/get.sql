-- The user with this id.
SELECT
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
FROM users
WHERE id = %(user_id)s::bigint
