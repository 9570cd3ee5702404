-- Changes how a user pays.
-- rootstream: null payment_method
UPDATE billing_accounts
SET payment_method = %(payment_method)s::text
WHERE user_id = %(user_id)s::bigint
RETURNING
    user_id,
    payment_method,
    subscription_tier,
    monthly_limit_gb,
    created_at,
    updated_at
