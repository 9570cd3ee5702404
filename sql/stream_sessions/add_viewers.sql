-- Viewers who joined and left a stream on air; answers how many watch now. No row: not on air, or fewer watched than left.
WITH open_session AS (
    -- Locked before the stream, as all statements on both do.
    SELECT stream_id
    FROM stream_sessions
    WHERE stream_id = %(stream_id)s::bigint AND session_end IS NULL
    FOR NO KEY UPDATE
),
counted AS (
    UPDATE streams
    SET viewer_count = streams.viewer_count + %(joined)s::bigint - %(left)s::bigint
    FROM open_session
    WHERE streams.id = open_session.stream_id
        AND streams.viewer_count + %(joined)s::bigint >= %(left)s::bigint
    RETURNING streams.id, streams.viewer_count
)
-- greatest: a row that another call changed meanwhile is first tried as the snapshot has it, and checked, with a total
-- that lacks the other's viewers while the count has them; only then as it is, where it is the sum.
UPDATE stream_sessions
SET
    total_viewers = greatest(stream_sessions.total_viewers + %(joined)s::bigint, counted.viewer_count),
    peak_viewers = greatest(stream_sessions.peak_viewers, counted.viewer_count)
FROM counted
WHERE stream_sessions.stream_id = counted.id AND stream_sessions.session_end IS NULL
RETURNING counted.viewer_count
