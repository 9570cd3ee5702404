-- The open session of a stream, with what a counter of its viewers begins from.
SELECT
    id,
    peak_viewers,
    unique_viewers,
    viewers_epoch
FROM stream_sessions
WHERE stream_id = %(stream_id)s::bigint AND session_end IS NULL
