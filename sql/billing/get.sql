-- A user's billing account.
SELECT
    user_id,
    payment_method,
    subscription_tier,
    monthly_limit_gb,
    created_at,
    updated_at
FROM billing_accounts
WHERE user_id = %(user_id)s::bigint
