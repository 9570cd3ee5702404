-- Makes the partition of usage_logs for the month (UTC) so many after the current one; answers 1 if it is new, else 0.
-- rootstream: writes
SELECT
    usage_logs_create_partitions(
        (
            date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => %(months)s::integer)
        )::date,
        1
    ) AS created
