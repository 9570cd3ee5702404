-- Gives the lock of the migration runner back.
-- rootstream: writes
SELECT pg_advisory_unlock(%(key)s::bigint) AS unlocked
