-- Deletes a user with all that belongs to them; answers with the login sessions that ended by it.
WITH user_to_delete AS (
    DELETE FROM users
    WHERE id = %(user_id)s::bigint
    RETURNING id
)
-- Still seen here: the sessions go with the user only when the statement ends.
SELECT sessions.token_hash
FROM user_to_delete
JOIN sessions ON sessions.user_id = user_to_delete.id AND sessions.is_active
