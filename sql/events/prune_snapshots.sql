-- Deletes all but an aggregate's newest snapshots of each shape, or of one.
-- rootstream: null schema_version
WITH
-- The newest of a shape is the first. Rows by their address: a snapshot is never updated, so it has one only.
ranked AS (
    SELECT
        ctid AS address,
        row_number() OVER (PARTITION BY schema_version ORDER BY version DESC) AS place
    FROM snapshots
    WHERE aggregate_id = %(aggregate_id)s::text
        AND aggregate_type = %(aggregate_type)s::text
        AND (%(schema_version)s::bigint IS NULL OR schema_version = %(schema_version)s::bigint)
)

DELETE FROM snapshots
WHERE ctid = ANY(ARRAY(
    SELECT address
    FROM ranked
    WHERE place > %(keep)s::bigint
))
