-- What a user consumed in each of the last months (UTC), the current one among them, newest first.
SELECT
    date_trunc('month', created_at AT TIME ZONE 'UTC')::date AS month,
    count(*) AS events,
    least(sum(bytes_transferred), 9223372036854775807)::bigint AS bytes_transferred,
    least(sum(duration_seconds), 9223372036854775807)::bigint AS duration_seconds
FROM usage_logs
WHERE user_id = %(user_id)s::bigint
    AND created_at
    >= (date_trunc('month', now() AT TIME ZONE 'UTC') - make_interval(months => %(months)s::integer - 1)) AT TIME ZONE 'UTC'
    AND created_at < (date_trunc('month', now() AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC'
GROUP BY 1
ORDER BY 1 DESC
