-- The streams with these ids, in order of id; those that are not there are left out.
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
WHERE id = ANY(%(stream_ids)s::bigint[])
ORDER BY id
