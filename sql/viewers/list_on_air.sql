-- The streams on air from after an id on, with what of their viewers has been flushed.
SELECT
    open_session.stream_id,
    open_session.id AS session_id,
    streams.is_public,
    streams.viewer_count,
    open_session.total_viewers,
    open_session.peak_viewers,
    open_session.unique_viewers,
    open_session.viewers_epoch,
    open_session.viewers_counted
FROM stream_sessions AS open_session
INNER JOIN streams ON streams.id = open_session.stream_id
WHERE open_session.session_end IS NULL AND open_session.stream_id > %(after_id)s::bigint
ORDER BY open_session.stream_id
LIMIT %(limit)s::bigint
