-- A user's transfer in one month (UTC), by default the current one, against the account's limit.
-- rootstream: null month
SELECT
    account.user_id,
    account.subscription_tier,
    account.monthly_limit_gb,
    used.bytes_transferred,
    -- no limit: never over
    coalesce(used.bytes_transferred > account.monthly_limit_gb * 1000000000, FALSE) AS is_over_limit
FROM billing_accounts AS account
-- The bounds are written out twice, so that the planner sees constants and leaves the other months aside.
CROSS JOIN (
    SELECT least(coalesce(sum(bytes_transferred), 0), 9223372036854775807)::bigint AS bytes_transferred
    FROM usage_logs
    WHERE user_id = %(user_id)s::bigint
        AND created_at
        >= date_trunc('month', coalesce(%(month)s::date::timestamp, now() AT TIME ZONE 'UTC')) AT TIME ZONE 'UTC'
        AND created_at
        < (date_trunc('month', coalesce(%(month)s::date::timestamp, now() AT TIME ZONE 'UTC')) + interval '1 month')
        AT TIME ZONE 'UTC'
) AS used
WHERE account.user_id = %(user_id)s::bigint
