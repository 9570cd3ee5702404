-- The users with these ids, in order of id; those that are not there are left out.
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
WHERE id = ANY(%(user_ids)s::bigint[])
ORDER BY id
