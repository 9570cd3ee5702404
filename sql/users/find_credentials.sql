-- What it takes to check the password of whoever logs in by this username or e-mail address.
SELECT
    id,
    password_hash,
    is_active
FROM users
WHERE lower(username) = lower(%(login)s::text) OR lower(email) = lower(%(login)s::text)
-- Somebody's username may look like another one's address: the address wins, so that nobody can be locked out.
ORDER BY lower(email) = lower(%(login)s::text) DESC
LIMIT 1
