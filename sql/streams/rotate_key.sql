-- Gives a stream another key; the old one is worth nothing from then on.
UPDATE streams
SET stream_key = %(stream_key)s::text
WHERE id = %(stream_id)s::bigint
RETURNING id
