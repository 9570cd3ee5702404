-- Opens a user's billing account.
-- rootstream: null payment_method, monthly_limit_gb
INSERT INTO billing_accounts (user_id, payment_method, subscription_tier, monthly_limit_gb)
VALUES (
    %(user_id)s::bigint,
    %(payment_method)s::text,
    %(subscription_tier)s::text,
    %(monthly_limit_gb)s::bigint
)
RETURNING
    user_id,
    payment_method,
    subscription_tier,
    monthly_limit_gb,
    created_at,
    updated_at
