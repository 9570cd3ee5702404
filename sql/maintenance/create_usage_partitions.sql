-- Makes the partitions of usage_logs for so many months (UTC) from the current one on; answers how many were new.
SELECT usage_logs_create_partitions((now() AT TIME ZONE 'UTC')::date, %(months)s::integer) AS created
