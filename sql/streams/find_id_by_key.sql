-- Which stream an encoder with this key feeds. For the cache: the answer changes only with the key.
SELECT id
FROM streams
WHERE stream_key = %(stream_key)s::text
