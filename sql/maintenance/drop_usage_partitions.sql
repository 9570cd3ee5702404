-- Drops the oldest usage before the current and so many earlier months (UTC); answers 1 for a partition, 0 when no more is left.
-- rootstream: writes
SELECT
    usage_logs_drop_partitions(
        (
            date_trunc('month', now() AT TIME ZONE 'UTC') - make_interval(months => %(months)s::integer)
        )::date
    ) AS dropped
