-- Changes what a user shows of themselves; a column whose set_ flag is false stays.
-- rootstream: null display_name, avatar_url
UPDATE users
SET
    display_name = CASE WHEN %(set_display_name)s::boolean THEN %(display_name)s::text ELSE display_name END,
    avatar_url = CASE WHEN %(set_avatar_url)s::boolean THEN %(avatar_url)s::text ELSE avatar_url END
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
