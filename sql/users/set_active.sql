-- Lets the user log in, or not.
UPDATE users
SET is_active = %(is_active)s::boolean
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
