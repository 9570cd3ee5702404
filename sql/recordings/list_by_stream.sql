-- The recordings of a stream, oldest first, from after an id on.
SELECT
    stream_id,
    id,
    session_id,
    file_path,
    file_size_bytes,
    duration_seconds,
    codec,
    resolution,
    fps,
    bitrate_kbps,
    is_processed,
    is_available,
    created_at,
    updated_at,
    expires_at
FROM recordings
WHERE stream_id = %(stream_id)s::bigint AND id > %(after_id)s::bigint
ORDER BY id
LIMIT %(limit)s::bigint
