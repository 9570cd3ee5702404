-- Locks the streams of a user with what is on air, in the order of all statements on both, and before the user, whom a
-- start or an end locks last.
WITH open_session AS (
    SELECT stream_sessions.id
    FROM stream_sessions
    INNER JOIN streams ON streams.id = stream_sessions.stream_id
    WHERE streams.user_id = %(user_id)s::bigint AND stream_sessions.session_end IS NULL
    ORDER BY stream_sessions.stream_id
    FOR UPDATE OF stream_sessions
)
SELECT id
FROM streams
-- The count is what makes those locks come first.
WHERE user_id = %(user_id)s::bigint AND (SELECT count(*) FROM open_session) >= 0
ORDER BY id
FOR UPDATE
