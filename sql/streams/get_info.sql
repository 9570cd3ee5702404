-- What describes a stream, without the figures of its broadcast, and the SHA-256 of its key.
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
    ended_at,
    sha256(convert_to(stream_key, 'UTF8')) AS key_hash
FROM streams
WHERE id = %(stream_id)s::bigint
