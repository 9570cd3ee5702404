-- Can this server be migrated, and what tells it from another?
SELECT
    pg_is_in_recovery() AS is_standby,
    current_setting('transaction_read_only') = 'on' AS is_read_only,
    current_setting('server_version_num')::integer AS version_number,
    current_database() AS database_name,
    current_schema() AS schema_name
