-- What encoders report of many streams on air, once for each batch of a writer: a figure of -1, or a rate of 0, stays as it
-- is, bytes are added. Answers the streams that were on air; is_mine false, and nothing is changed, where the checkpoint is not where
-- the writer left it.
WITH checkpoint AS (
    UPDATE queue_writers
    SET
        stats_batch = %(batch)s::bigint,
        updated_at = now()
    WHERE writer = %(writer)s::uuid AND stats_batch = %(batch)s::bigint - 1
    RETURNING writer
),
given AS (
    SELECT
        figures.stream_id,
        nullif(figures.viewer_count, -1) AS viewer_count,
        nullif(figures.most_viewers, -1) AS most_viewers,
        nullif(figures.bitrate_kbps, -1) AS bitrate_kbps,
        nullif(figures.fps, 0) AS fps,
        figures.bytes_sent
    FROM
        ROWS FROM (
            unnest(%(stream_ids)s::bigint[]),
            unnest(%(viewer_counts)s::bigint[]),
            unnest(%(most_viewers)s::bigint[]),
            unnest(%(bitrates_kbps)s::bigint[]),
            unnest(%(fps)s::double precision[]),
            unnest(%(bytes_sent)s::bigint[])
        ) AS figures (stream_id, viewer_count, most_viewers, bitrate_kbps, fps, bytes_sent)
    WHERE EXISTS (SELECT FROM checkpoint)
),
open_sessions AS (
    -- In one order, and before the streams, as all statements on both do.
    SELECT
        stream_sessions.stream_id,
        stream_sessions.id
    FROM stream_sessions
    INNER JOIN given ON stream_sessions.stream_id = given.stream_id
    WHERE stream_sessions.session_end IS NULL
    ORDER BY stream_sessions.stream_id
    FOR NO KEY UPDATE OF stream_sessions
),
counted AS (
    UPDATE stream_sessions
    SET
        peak_viewers = greatest(stream_sessions.peak_viewers, given.most_viewers),
        total_viewers = greatest(stream_sessions.total_viewers, given.most_viewers),
        total_bytes_sent = stream_sessions.total_bytes_sent + given.bytes_sent
    FROM open_sessions
    INNER JOIN given ON open_sessions.stream_id = given.stream_id
    WHERE stream_sessions.stream_id = open_sessions.stream_id
        AND stream_sessions.id = open_sessions.id
        AND stream_sessions.session_end IS NULL
    RETURNING stream_sessions.stream_id
),
changed AS (
    UPDATE streams
    SET
        viewer_count = coalesce(given.viewer_count, streams.viewer_count),
        bitrate_kbps = coalesce(given.bitrate_kbps, streams.bitrate_kbps),
        fps = coalesce(given.fps, streams.fps)
    FROM counted
    INNER JOIN given ON counted.stream_id = given.stream_id
    WHERE streams.id = counted.stream_id
    RETURNING streams.id
)
SELECT
    coalesce(array_agg(changed.id), '{}') AS stream_ids,
    EXISTS (SELECT FROM checkpoint) AS is_mine
FROM changed
