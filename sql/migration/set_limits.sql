-- The settings a migration runs under; text in single quotes is read as the runner reads it.
-- rootstream: writes
SELECT
    set_config('lock_timeout', %(lock_timeout)s::text, FALSE) AS lock_timeout,
    set_config('statement_timeout', '0', FALSE) AS statement_timeout,
    set_config('idle_in_transaction_session_timeout', '0', FALSE) AS idle_timeout,
    -- The server notices when the runner was killed, and lets go of its locks.
    set_config('client_connection_check_interval', '1s', FALSE) AS check_interval,
    set_config('standard_conforming_strings', 'on', FALSE) AS conforming
