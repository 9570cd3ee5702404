-- Keeps everybody else from changing this user, and from making a login session of theirs, until the transaction ends.
SELECT id
FROM users
WHERE id = %(user_id)s::bigint
FOR UPDATE
