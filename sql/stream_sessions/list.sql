-- The sessions of a stream, newest first, from before an id on; null: from the newest.
-- rootstream: null before_id
SELECT
    stream_id,
    id,
    session_start,
    session_end,
    total_viewers,
    peak_viewers,
    unique_viewers,
    total_bytes_sent,
    duration_seconds,
    is_recorded,
    recording_path
FROM stream_sessions
-- Not "is null or": a bound that is always there makes every page a range of the index.
WHERE stream_id = %(stream_id)s::bigint AND id < coalesce(%(before_id)s::bigint, 9223372036854775807)
ORDER BY id DESC
LIMIT %(limit)s::bigint
