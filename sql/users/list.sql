-- Users in the order of their ids, from the one after after_id on.
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
WHERE id > %(after_id)s::bigint
ORDER BY id
LIMIT %(limit)s::bigint
