-- What this database says was applied of a line.
SELECT version, name, checksum, state, applied_at, duration_ms
FROM schema_migrations
WHERE line = %(line)s::text
ORDER BY version
