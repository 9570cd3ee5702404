-- The user with this e-mail address, whatever its case.
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
WHERE lower(email) = lower(%(email)s::text)
