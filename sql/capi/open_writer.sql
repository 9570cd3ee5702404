-- Makes the row of a writer where it is not there; rows that nobody has moved for a month go. Answers who serves it.
WITH abandoned AS (
    DELETE FROM queue_writers
    WHERE updated_at < now() - interval '30 days' AND writer <> %(writer)s::uuid
),
opened AS (
    INSERT INTO queue_writers (writer, events_position, stats_batch)
    VALUES (%(writer)s::uuid, %(events_position)s::bigint, %(stats_batch)s::bigint)
    ON CONFLICT (writer) DO NOTHING
)
SELECT
    activity.pid::bigint AS pid,
    coalesce(activity.backend_start, now()) AS backend_start
FROM pg_stat_activity AS activity
WHERE activity.pid = pg_backend_pid()
