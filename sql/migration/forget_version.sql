-- A version that was running counts as never begun. No row when it was not running.
DELETE FROM schema_migrations
WHERE line = %(line)s::text
    AND version = %(version)s::bigint
    AND state = 'running'
RETURNING version
