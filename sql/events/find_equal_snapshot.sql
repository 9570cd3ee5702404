-- The snapshot of one version of an aggregate, if it holds this very state.
SELECT
    aggregate_id,
    aggregate_type,
    version,
    position,
    schema_version,
    state,
    created_at
FROM snapshots
WHERE aggregate_id = %(aggregate_id)s::text
    AND aggregate_type = %(aggregate_type)s::text
    AND schema_version = %(schema_version)s::bigint
    AND version = %(version)s::bigint
    AND state = %(state)s::jsonb
