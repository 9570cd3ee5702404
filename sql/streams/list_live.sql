-- The public streams that are on air, in order of id, from after an id on.
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
WHERE is_live AND is_public AND id > %(after_id)s::bigint
ORDER BY id
LIMIT %(limit)s::bigint
