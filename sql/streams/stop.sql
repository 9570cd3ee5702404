-- Takes a stream off air: closes its open session, which it answers with, and logs what was sent. No row: not on air.
-- A session_id: only if that is the open session. What was counted of its viewers in Redis until now is added, unless it
-- has been, as sql/viewers/flush.sql does; all of it null: nothing was.
-- rootstream: null session_id, counted_session_id, epoch, joined, peak, unique
WITH closed AS (
    -- Who waits here for another caller finds session_end set and closes nothing. A clock that was turned back
    -- between start and end gives a duration of 0.
    UPDATE stream_sessions
    SET (
        session_end,
        duration_seconds,
        total_viewers,
        peak_viewers,
        unique_viewers,
        viewers_epoch,
        viewers_counted,
        viewers_flushed_at
    ) = (
        SELECT
            clock.ended_at,
            floor(extract(EPOCH FROM clock.ended_at - stream_sessions.session_start))::bigint,
            sums.total,
            greatest(stream_sessions.peak_viewers, sums.peak),
            greatest(stream_sessions.unique_viewers, least(coalesce(sums.different, 0), sums.total)),
            coalesce(sums.epoch, stream_sessions.viewers_epoch),
            coalesce(sums.counted, stream_sessions.viewers_counted),
            CASE WHEN sums.epoch IS NULL THEN stream_sessions.viewers_flushed_at ELSE now() END
        FROM (SELECT greatest(clock_timestamp(), stream_sessions.session_start) AS ended_at) AS clock
        CROSS JOIN (
            SELECT
                greatest(
                    stream_sessions.total_viewers + coalesce(max(told.counted - told.before), 0),
                    stream_sessions.peak_viewers,
                    max(told.peak)
                ) AS total,
                max(told.epoch) AS epoch,
                max(told.counted) AS counted,
                max(told.peak) AS peak,
                max(told.different) AS different
            FROM (
                -- One row, or none where it is of another session or another counter.
                SELECT
                    %(epoch)s::bigint AS epoch,
                    %(peak)s::bigint AS peak,
                    %(unique)s::bigint AS different,
                    CASE WHEN stream_sessions.viewers_epoch = %(epoch)s::bigint
                        THEN stream_sessions.viewers_counted ELSE 0 END AS before,
                    CASE WHEN stream_sessions.viewers_epoch = %(epoch)s::bigint
                        THEN greatest(stream_sessions.viewers_counted, %(joined)s::bigint)
                        ELSE %(joined)s::bigint END AS counted
                WHERE stream_sessions.id = %(counted_session_id)s::bigint
                    AND stream_sessions.viewers_epoch <= %(epoch)s::bigint
            ) AS told
        ) AS sums
    )
    WHERE stream_id = %(stream_id)s::bigint
        AND session_end IS NULL
        AND (%(session_id)s::bigint IS NULL OR id = %(session_id)s::bigint)
    RETURNING
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
),
off_air AS (
    UPDATE streams
    SET
        is_live = FALSE,
        viewer_count = 0,
        ended_at = closed.session_end
    FROM closed
    WHERE streams.id = closed.stream_id
    RETURNING
        streams.user_id,
        closed.stream_id,
        closed.total_bytes_sent,
        closed.duration_seconds
),
logged AS (
    INSERT INTO usage_logs (user_id, stream_id, event_type, bytes_transferred, duration_seconds)
    SELECT
        user_id,
        stream_id,
        'stream_end',
        total_bytes_sent,
        duration_seconds
    FROM off_air
)
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
FROM closed
