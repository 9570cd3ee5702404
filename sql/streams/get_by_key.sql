-- The stream that an encoder with this key feeds, without the figures of its broadcast.
SELECT
    id,
    user_id,
    name,
    description,
    stream_url,
    thumbnail_url,
    is_live,
    is_public,
    created_at,
    started_at,
    ended_at
FROM streams
WHERE stream_key = %(stream_key)s::text
