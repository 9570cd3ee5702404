-- The viewers of a stream as of the last flush or report; while off air all of them are 0.
SELECT
    streams.id AS stream_id,
    CASE WHEN streams.is_live THEN open_session.id END AS session_id,
    streams.viewer_count AS current,
    coalesce(open_session.peak_viewers, 0) AS peak,
    coalesce(open_session.unique_viewers, 0) AS "unique",
    open_session.viewers_flushed_at AS as_of,
    FALSE AS is_from_redis
FROM streams
LEFT JOIN stream_sessions AS open_session
    ON open_session.stream_id = streams.id AND open_session.session_end IS NULL
WHERE streams.id = %(stream_id)s::bigint
