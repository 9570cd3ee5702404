-- Keeps the state of an aggregate as of one version; no row when that version has no event, or has such a snapshot.
INSERT INTO snapshots (aggregate_id, aggregate_type, version, position, schema_version, state)
SELECT
    aggregate_id,
    aggregate_type,
    version,
    position,
    %(schema_version)s::bigint,
    %(state)s::jsonb
FROM (
    SELECT
        aggregate_id,
        aggregate_type,
        version,
        position
    FROM event_log
    WHERE aggregate_id = %(aggregate_id)s::text
        AND aggregate_type = %(aggregate_type)s::text
        AND version = %(version)s::bigint
    UNION ALL
    SELECT
        aggregate_id,
        aggregate_type,
        version,
        position
    FROM event_log_archived
    WHERE aggregate_id = %(aggregate_id)s::text
        AND aggregate_type = %(aggregate_type)s::text
        AND first_version <= %(version)s::bigint
        AND last_version >= %(version)s::bigint
        AND version = %(version)s::bigint
) AS events
ON CONFLICT (aggregate_id, aggregate_type, schema_version, version) DO NOTHING
RETURNING
    aggregate_id,
    aggregate_type,
    version,
    position,
    schema_version,
    state,
    created_at
