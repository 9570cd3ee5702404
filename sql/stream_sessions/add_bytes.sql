-- Adds to what the open session of a stream has sent; answers the sum. No row: not on air.
UPDATE stream_sessions
SET total_bytes_sent = total_bytes_sent + %(count)s::bigint
WHERE stream_id = %(stream_id)s::bigint AND session_end IS NULL
RETURNING total_bytes_sent
