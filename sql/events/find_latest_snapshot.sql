-- The newest snapshot of an aggregate whose state has this shape.
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
    AND version <= %(to_version)s::bigint
ORDER BY version DESC
LIMIT 1
