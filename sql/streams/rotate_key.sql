-- Gives a stream another key and answers with the SHA-256 of the old one, which is worth nothing from then on.
WITH stream_to_change AS (
    SELECT
        id,
        sha256(convert_to(stream_key, 'UTF8')) AS old_hash
    FROM streams
    WHERE id = %(stream_id)s::bigint
    -- So that of two callers the second sees the key of the first.
    FOR UPDATE
)
UPDATE streams
SET stream_key = %(stream_key)s::text
FROM stream_to_change
WHERE streams.id = stream_to_change.id
RETURNING stream_to_change.old_hash
