-- The key of a stream, which its encoder presents.
SELECT stream_key
FROM streams
WHERE id = %(stream_id)s::bigint
