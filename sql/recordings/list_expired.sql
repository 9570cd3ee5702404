-- The recordings that may be deleted, longest expired first. now: null for the clock's.
-- rootstream: null now
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
WHERE expires_at <= coalesce(%(now)s::timestamptz, now())
ORDER BY expires_at, stream_id, id
LIMIT %(limit)s::bigint
