-- A new recording, of a file that is still being written.
-- rootstream: null session_id, codec, resolution, fps, bitrate_kbps, expires_at
INSERT INTO recordings (stream_id, session_id, file_path, codec, resolution, fps, bitrate_kbps, expires_at)
VALUES (
    %(stream_id)s::bigint,
    %(session_id)s::bigint,
    %(file_path)s::text,
    %(codec)s::text,
    %(resolution)s::text,
    %(fps)s::double precision,
    %(bitrate_kbps)s::bigint,
    %(expires_at)s::timestamptz
)
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
