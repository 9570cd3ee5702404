-- A new account.
-- rootstream: null display_name, avatar_url
INSERT INTO users (username, email, password_hash, display_name, avatar_url)
VALUES (
    %(username)s::text,
    %(email)s::text,
    %(password_hash)s::text,
    %(display_name)s::text,
    %(avatar_url)s::text
)
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
