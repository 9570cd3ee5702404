-- Logs many entries at once.
COPY usage_logs (user_id, created_at, stream_id, event_type, bytes_transferred, duration_seconds)
FROM STDIN (FORMAT binary)
