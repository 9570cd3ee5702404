-- Moves a billing account to another tier, and to another limit where one is given.
-- rootstream: null monthly_limit_gb
UPDATE billing_accounts
SET
    subscription_tier = %(subscription_tier)s::text,
    monthly_limit_gb = CASE
        WHEN %(set_monthly_limit_gb)s::boolean THEN %(monthly_limit_gb)s::bigint
        ELSE monthly_limit_gb
    END
WHERE user_id = %(user_id)s::bigint
RETURNING
    user_id,
    payment_method,
    subscription_tier,
    monthly_limit_gb,
    created_at,
    updated_at
