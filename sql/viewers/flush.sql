-- Brings what was counted in Redis to the open sessions and their streams; answers which streams it found on air. A
-- counter only grows, and what of it has been added stands in the same row: made twice it adds nothing, and one that
-- comes late changes neither an ended session nor what a newer counter has told.
WITH counted AS (
    SELECT
        stream_id,
        session_id,
        epoch,
        joined,
        peak,
        different,
        watching
    FROM unnest(
        %(stream_ids)s::bigint [],
        %(session_ids)s::bigint [],
        %(epochs)s::bigint [],
        %(joined)s::bigint [],
        %(peaks)s::bigint [],
        %(uniques)s::bigint [],
        %(currents)s::bigint []
    ) AS told (stream_id, session_id, epoch, joined, peak, different, watching)
),
open_session AS (
    -- Locked before the stream, as all statements on both do, and in one order, so that two flushes do not wait for each
    -- other.
    SELECT
        stream_sessions.stream_id,
        stream_sessions.id
    FROM stream_sessions
    INNER JOIN counted ON counted.stream_id = stream_sessions.stream_id AND counted.session_id = stream_sessions.id
    WHERE stream_sessions.session_end IS NULL
    ORDER BY stream_sessions.stream_id
    FOR NO KEY UPDATE OF stream_sessions
),
flushed AS (
    -- All that it decides by is in this row, which is read again where another flush was faster.
    UPDATE stream_sessions
    SET (
        total_viewers, peak_viewers, unique_viewers, viewers_epoch, viewers_counted, viewers_flushed_at
    ) = (
        SELECT
            sums.total,
            sums.peak,
            greatest(stream_sessions.unique_viewers, least(counted.different, sums.total)),
            counted.epoch,
            sums.counted,
            now()
        FROM (
            SELECT
                greatest(stream_sessions.peak_viewers, counted.peak) AS peak,
                -- Every viewer of the peak has joined at some time.
                greatest(
                    stream_sessions.total_viewers + already.counted - already.before,
                    stream_sessions.peak_viewers,
                    counted.peak
                ) AS total,
                already.counted
            FROM (
                SELECT
                    CASE WHEN counted.epoch = stream_sessions.viewers_epoch
                        THEN stream_sessions.viewers_counted ELSE 0 END AS before,
                    CASE WHEN counted.epoch = stream_sessions.viewers_epoch
                        THEN greatest(stream_sessions.viewers_counted, counted.joined)
                        ELSE counted.joined END AS counted
            ) AS already
        ) AS sums
    )
    FROM counted
    INNER JOIN open_session
        ON open_session.stream_id = counted.stream_id AND open_session.id = counted.session_id
    WHERE stream_sessions.stream_id = counted.stream_id
        AND stream_sessions.id = counted.session_id
        AND stream_sessions.session_end IS NULL
        AND stream_sessions.viewers_epoch <= counted.epoch
    RETURNING stream_sessions.stream_id, counted.watching
),
on_air AS (
    UPDATE streams
    SET viewer_count = flushed.watching
    FROM flushed
    WHERE streams.id = flushed.stream_id AND streams.viewer_count <> flushed.watching
)
SELECT stream_id
FROM flushed
