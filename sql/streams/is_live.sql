-- Whether a stream is on air.
SELECT is_live
FROM streams
WHERE id = %(stream_id)s::bigint
