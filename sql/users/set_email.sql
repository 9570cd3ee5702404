-- Changes the e-mail address; another address than before is not verified.
UPDATE users
SET
    email = %(email)s::text,
    is_verified = is_verified AND email = %(email)s::text
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
