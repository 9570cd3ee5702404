-- What was consumed by a user from one time up to, and without, another.
SELECT
    count(*) AS events,
    least(coalesce(sum(bytes_transferred), 0), 9223372036854775807)::bigint AS bytes_transferred,
    least(coalesce(sum(duration_seconds), 0), 9223372036854775807)::bigint AS duration_seconds
FROM usage_logs
WHERE user_id = %(user_id)s::bigint
    AND created_at >= %(since)s::timestamptz
    AND created_at < %(until)s::timestamptz
