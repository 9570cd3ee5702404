-- Ends the login sessions of a user but the one to keep (null: none); answers with those that it ended.
-- rootstream: null kept_hash
UPDATE sessions
SET is_active = FALSE
WHERE
    user_id = %(user_id)s::bigint
    AND is_active
    AND token_hash IS DISTINCT FROM %(kept_hash)s::bytea
RETURNING token_hash
