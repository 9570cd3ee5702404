-- How large is each table of the library, its partitions included, and how large are its indexes? In bytes, no row for a table that is not there.
SELECT
    names.name AS "table",
    sum(pg_table_size(parts.oid))::bigint AS table_bytes,
    sum(pg_indexes_size(parts.oid))::bigint AS index_bytes
FROM unnest(ARRAY[
    'users', 'sessions', 'streams', 'stream_sessions', 'recordings', 'billing_accounts', 'usage_logs',
    'aggregates', 'event_log', 'event_segments', 'event_seals', 'event_erased', 'event_erasures', 'snapshots',
    'subscriptions', 'subscription_members', 'parked_events', 'cache_invalidations', 'queue_writers',
    'rejected_events', 'schema_migrations'
]) AS names (name)
-- Partitions come and go by month; their sum is what grows.
CROSS JOIN LATERAL (
    SELECT to_regclass(names.name)::oid AS oid
    UNION
    SELECT relid::oid AS oid FROM pg_partition_tree(to_regclass(names.name))
) AS parts
WHERE parts.oid IS NOT NULL
GROUP BY names.name
ORDER BY names.name
