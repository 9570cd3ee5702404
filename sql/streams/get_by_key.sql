-- The stream that an encoder with this key feeds.
SELECT
    id,
    user_id,
    name,
    description,
    stream_url,
    thumbnail_url,
    is_live,
    viewer_count,
    bitrate_kbps,
    resolution,
    fps,
    codec,
    is_public,
    created_at,
    updated_at,
    started_at,
    ended_at
FROM streams
WHERE stream_key = %(stream_key)s::text
