-- Closes a user's billing account for good; answers with the user's id.
DELETE FROM billing_accounts
WHERE user_id = %(user_id)s::bigint
RETURNING user_id
