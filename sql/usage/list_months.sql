-- What a user consumed in each of the last months (UTC), the current one among them, newest first.
SELECT
    date_trunc('month', created_at AT TIME ZONE 'UTC')::date AS month,
    count(*) AS events,
    sum(bytes_transferred)::bigint AS bytes_transferred,
    sum(duration_seconds)::bigint AS duration_seconds
FROM usage_logs
WHERE user_id = %(user_id)s::bigint
    AND created_at
    >= (date_trunc('month', now() AT TIME ZONE 'UTC') - make_interval(months => %(months)s::integer - 1)) AT TIME ZONE 'UTC'
    AND created_at < (date_trunc('month', now() AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC'
GROUP BY 1
ORDER BY 1 DESC
