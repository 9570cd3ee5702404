-- The open session of a stream.
SELECT
    stream_id,
    id,
    session_start,
    session_end,
    total_viewers,
    peak_viewers,
    unique_viewers,
    total_bytes_sent,
    duration_seconds,
    is_recorded,
    recording_path
FROM stream_sessions
WHERE stream_id = %(stream_id)s::bigint AND session_end IS NULL
