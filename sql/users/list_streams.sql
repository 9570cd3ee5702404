-- The streams of a user, and which are on air, as far as what is cached of them has to go with the user.
SELECT
    id,
    is_live,
    sha256(convert_to(stream_key, 'UTF8')) AS key_hash
FROM streams
WHERE user_id = %(user_id)s::bigint
ORDER BY id
