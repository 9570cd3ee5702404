-- Puts a version on record. A version that is there already is an error: another runner was at work.
INSERT INTO schema_migrations (line, version, name, checksum, state, duration_ms)
VALUES (
    %(line)s::text,
    %(version)s::bigint,
    %(name)s::text,
    %(checksum)s::text,
    %(state)s::text,
    %(duration_ms)s::bigint
)
