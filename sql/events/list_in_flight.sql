-- The transactions that have appended and not ended, the one that holds readers back first.
SELECT
    coalesce(watermark, 0) AS watermark,
    pid,
    role::text AS role,
    application_name,
    host(client_address) AS client_address,
    state,
    wait_event,
    transaction_start
FROM event_log_in_flight
ORDER BY event_log_in_flight.watermark ASC, transaction_start ASC
