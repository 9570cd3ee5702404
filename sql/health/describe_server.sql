-- What server is this, and does it take writes?
SELECT
    current_database()::text AS database,
    current_setting('server_version') AS version,
    NOT pg_is_in_recovery() AS is_primary,
    current_setting('transaction_read_only') = 'on' AS is_read_only
