-- A new stream, off air.
-- rootstream: null description, stream_url, thumbnail_url
INSERT INTO streams (user_id, name, description, stream_key, stream_url, thumbnail_url, is_public)
VALUES (
    %(user_id)s::bigint,
    %(name)s::text,
    %(description)s::text,
    %(stream_key)s::text,
    %(stream_url)s::text,
    %(thumbnail_url)s::text,
    %(is_public)s::boolean
)
RETURNING
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
