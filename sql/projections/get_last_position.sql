-- The last position handed out: what is appended after this lies above it.
SELECT coalesce(pg_sequence_last_value('event_log_position_seq'), 0) AS position
