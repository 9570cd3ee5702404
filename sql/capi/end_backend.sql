-- Ends the server process of a connection that was lost, so that it holds no lock any longer. No row: it is gone.
-- rootstream: writes
SELECT pg_terminate_backend(activity.pid) AS is_ended
FROM pg_stat_activity AS activity
WHERE activity.pid = %(pid)s::bigint AND activity.backend_start = %(backend_start)s::timestamptz
