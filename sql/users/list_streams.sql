-- The streams of a user, and which are on air, as far as what is cached of them has to go with the user.
SELECT
    id,
    is_live
FROM streams
WHERE user_id = %(user_id)s::bigint
ORDER BY id
