-- Ends a login session; answers whose it was. No row: there is none, or it was ended before.
UPDATE sessions
SET is_active = FALSE
WHERE token_hash = %(token_hash)s::bytea AND is_active
RETURNING user_id
