-- What describes a stream; only the columns whose set_ parameter is true change.
-- rootstream: null name, description, stream_url, thumbnail_url, is_public
UPDATE streams
SET
    name = CASE WHEN %(set_name)s::boolean THEN %(name)s::text ELSE streams.name END,
    description = CASE WHEN %(set_description)s::boolean THEN %(description)s::text ELSE streams.description END,
    stream_url = CASE WHEN %(set_stream_url)s::boolean THEN %(stream_url)s::text ELSE streams.stream_url END,
    thumbnail_url = CASE WHEN %(set_thumbnail_url)s::boolean THEN %(thumbnail_url)s::text ELSE streams.thumbnail_url END,
    is_public = CASE WHEN %(set_is_public)s::boolean THEN %(is_public)s::boolean ELSE streams.is_public END
WHERE id = %(stream_id)s::bigint
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
