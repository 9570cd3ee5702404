-- Puts a stream on air: opens its session, which it answers with, and logs the start. No row: gone, or on air already.
-- Locks the session before the stream, as all statements on both do, so that no two of them wait for each other.
-- rootstream: null bitrate_kbps, resolution, fps, codec, recording_path
WITH opened AS (
    -- The unique index of open sessions lets one caller through. It also sees what this statement's snapshot
    -- does not: a session that another caller opened, or closed, a moment ago.
    INSERT INTO stream_sessions (stream_id, session_start, is_recorded, recording_path)
    SELECT
        id,
        clock_timestamp(),
        %(is_recorded)s::boolean,
        %(recording_path)s::text
    FROM streams
    WHERE id = %(stream_id)s::bigint
    ON CONFLICT (stream_id) WHERE session_end IS NULL DO NOTHING
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
on_air AS (
    UPDATE streams
    SET
        is_live = TRUE,
        viewer_count = 0,
        bitrate_kbps = %(bitrate_kbps)s::bigint,
        resolution = %(resolution)s::text,
        fps = %(fps)s::double precision,
        codec = %(codec)s::text,
        started_at = opened.session_start,
        ended_at = NULL
    FROM opened
    WHERE streams.id = opened.stream_id
    RETURNING streams.id, streams.user_id
),
logged AS (
    INSERT INTO usage_logs (user_id, stream_id, event_type)
    SELECT
        user_id,
        id,
        'stream_start'
    FROM on_air
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
FROM opened
