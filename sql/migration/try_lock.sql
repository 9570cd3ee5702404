-- Is the lock of the migration runner ours now? Never waits: a waiting session and CREATE INDEX CONCURRENTLY deadlock.
-- rootstream: writes
SELECT pg_try_advisory_lock(%(key)s::bigint) AS locked
