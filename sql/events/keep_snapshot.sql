-- Keeps a state that was just folded, and of older snapshots of its shape only the newest; waits for nobody who does the same.
WITH
-- Of several who loaded the aggregate one does it. The others go on: a reader must not wait for another's transaction.
turn AS MATERIALIZED (
    SELECT
        pg_try_advisory_xact_lock(
            'snapshots'::regclass::oid::integer,
            hashtext(%(aggregate_type)s::text || ' ' || %(aggregate_id)s::text)
        ) AS is_mine
),

saved AS (
    INSERT INTO snapshots (aggregate_id, aggregate_type, version, position, schema_version, state)
    SELECT
        %(aggregate_id)s::text,
        %(aggregate_type)s::text,
        %(version)s::bigint,
        %(position)s::bigint,
        %(schema_version)s::bigint,
        %(state)s::jsonb
    FROM turn
    WHERE turn.is_mine
    ON CONFLICT (aggregate_id, aggregate_type, schema_version, version) DO NOTHING
)

DELETE FROM snapshots
WHERE aggregate_id = %(aggregate_id)s::text
    AND aggregate_type = %(aggregate_type)s::text
    AND schema_version = %(schema_version)s::bigint
    AND (SELECT is_mine FROM turn)
    -- Those beyond the number to keep, of which the one saved above, not seen here yet, is one.
    AND version = ANY(ARRAY(
        SELECT version
        FROM snapshots
        WHERE aggregate_id = %(aggregate_id)s::text
            AND aggregate_type = %(aggregate_type)s::text
            AND schema_version = %(schema_version)s::bigint
            AND version < %(version)s::bigint
        ORDER BY version DESC
        OFFSET %(keep)s::bigint - 1
        FOR UPDATE SKIP LOCKED
    ))
