-- Whether a recording may be watched.
UPDATE recordings
SET is_available = %(is_available)s::boolean
WHERE stream_id = %(stream_id)s::bigint AND id = %(recording_id)s::bigint
RETURNING
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
