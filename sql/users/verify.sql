-- Notes that the e-mail address was confirmed.
UPDATE users
SET is_verified = TRUE
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
