-- Takes a stream off air: closes its open session, which it answers with, and logs what was sent. No row: not on air.
-- A session_id: only if that is the open session.
-- rootstream: null session_id
WITH closed AS (
    -- Who waits here for another caller finds session_end set and closes nothing. A clock that was turned back
    -- between start and end gives a duration of 0.
    UPDATE stream_sessions
    SET (session_end, duration_seconds) = (
        SELECT
            clock.ended_at,
            floor(extract(EPOCH FROM clock.ended_at - stream_sessions.session_start))::bigint
        FROM (SELECT greatest(clock_timestamp(), stream_sessions.session_start) AS ended_at) AS clock
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
    total_bytes_sent,
    duration_seconds,
    is_recorded,
    recording_path
FROM closed
