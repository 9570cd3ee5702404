-- Keeps the state of an aggregate as of one version; no row when that version has no event, or has such a snapshot.
INSERT INTO snapshots (aggregate_id, aggregate_type, version, position, schema_version, state)
SELECT
    aggregate_id,
    aggregate_type,
    version,
    position,
    %(schema_version)s::bigint,
    %(state)s::jsonb
FROM event_log
WHERE aggregate_id = %(aggregate_id)s::text
    AND aggregate_type = %(aggregate_type)s::text
    AND version = %(version)s::bigint
ON CONFLICT (aggregate_id, aggregate_type, schema_version, version) DO NOTHING
RETURNING
    aggregate_id,
    aggregate_type,
    version,
    position,
    schema_version,
    state,
    created_at
