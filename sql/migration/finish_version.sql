-- A version that was running is done. No row when it was not running.
UPDATE schema_migrations
SET
    state = 'applied',
    applied_at = clock_timestamp(),
    duration_ms = %(duration_ms)s::bigint
WHERE line = %(line)s::text
    AND version = %(version)s::bigint
    AND state = 'running'
RETURNING version
