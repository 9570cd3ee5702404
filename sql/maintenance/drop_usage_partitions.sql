-- Drops the usage of all but the current and so many earlier months (UTC); answers how many partitions went.
SELECT
    usage_logs_drop_partitions(
        (
            date_trunc('month', now() AT TIME ZONE 'UTC') - make_interval(months => %(months)s::integer)
        )::date
    ) AS dropped
