-- Does this server session hold the lock of the migration runner?
SELECT EXISTS (
    SELECT 1
    FROM pg_locks
    WHERE locktype = 'advisory'
        AND pid = pg_backend_pid()
        AND granted
        AND objsubid = 1 -- a key of one bigint, split over classid and objid
        AND classid::bigint = %(key)s::bigint >> 32
        AND objid::bigint = %(key)s::bigint & 4294967295
) AS holds
