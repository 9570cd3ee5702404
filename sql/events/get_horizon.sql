-- Up to which position is the log complete, so that no event can be committed there any more? The next statement may read up to it, this one may not.
WITH
-- Before the locks are looked at: whoever drew a number up to this one took its lock earlier still.
drawn AS MATERIALIZED (
    SELECT coalesce(pg_sequence_last_value('event_log_position_seq'), 0) AS position
)

SELECT
    CASE drawn.position
        -- Nothing was drawn since the log was found complete up to here: no need to look at the locks.
        WHEN %(known)s::bigint THEN drawn.position
        ELSE drawn.position - coalesce((
            -- How far the lowest watermark of those that append just now lies below; it was cut to 31 bits.
            SELECT max((drawn.position - locks.objid::bigint) & 2147483647)
            FROM pg_locks AS locks
            WHERE locks.locktype = 'advisory'
                AND locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                AND locks.classid = 'event_log'::regclass
                AND locks.objsubid = 2
        ), 0)
    END AS position,
    drawn.position AS last_position,
    -- Locks are known on the primary only, and a snapshot older than this answer does not show all events below it.
    NOT pg_is_in_recovery() AS is_primary,
    current_setting('transaction_isolation') IN ('read committed', 'read uncommitted') AS is_fresh
FROM drawn
