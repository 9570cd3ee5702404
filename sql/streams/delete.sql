-- Deletes a stream with its sessions and recordings; answers whether it was on air, and with the SHA-256 of its key. What
-- was sent until then is logged.
WITH open_session AS (
    -- Locked before the stream, as all statements on both do.
    SELECT
        total_bytes_sent,
        greatest(0, floor(extract(EPOCH FROM clock_timestamp() - session_start)))::bigint AS duration_seconds
    FROM stream_sessions
    WHERE stream_id = %(stream_id)s::bigint AND session_end IS NULL
    FOR UPDATE
),
deleted AS (
    -- The count is what makes the lock come first.
    DELETE FROM streams
    WHERE id = %(stream_id)s::bigint AND (SELECT count(*) FROM open_session) >= 0
    RETURNING id, user_id, is_live, stream_key
),
logged AS (
    INSERT INTO usage_logs (user_id, stream_id, event_type, bytes_transferred, duration_seconds)
    SELECT
        deleted.user_id,
        deleted.id,
        'stream_end',
        open_session.total_bytes_sent,
        open_session.duration_seconds
    FROM deleted
    CROSS JOIN open_session
)
SELECT
    is_live,
    sha256(convert_to(stream_key, 'UTF8')) AS key_hash
FROM deleted
