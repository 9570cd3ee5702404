-- Who holds the lock of the migration runner? No row when nobody does.
SELECT
    activity.pid,
    coalesce(activity.application_name, '') AS application_name,
    coalesce(host(activity.client_addr), 'local') AS client,
    extract(EPOCH FROM clock_timestamp() - activity.backend_start)::double precision AS connected_seconds
FROM pg_locks AS held
JOIN pg_stat_activity AS activity ON activity.pid = held.pid
WHERE held.locktype = 'advisory'
    AND held.granted
    AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND held.objsubid = 1
    AND held.classid::bigint = %(key)s::bigint >> 32
    AND held.objid::bigint = %(key)s::bigint & 4294967295
