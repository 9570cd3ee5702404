-- Logs what a user consumed, now or at a given time; answers with the id of the entry.
-- rootstream: null created_at, stream_id
INSERT INTO usage_logs (user_id, created_at, stream_id, event_type, bytes_transferred, duration_seconds)
VALUES (
    %(user_id)s::bigint,
    coalesce(%(created_at)s::timestamptz, now()),
    %(stream_id)s::bigint,
    %(event_type)s::text,
    %(bytes_transferred)s::bigint,
    %(duration_seconds)s::bigint
)
RETURNING id
