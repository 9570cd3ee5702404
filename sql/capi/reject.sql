-- Keeps an event that cannot be stored.
-- rootstream: null metadata, user_id, sqlstate
INSERT INTO rejected_events (
    writer, aggregate_type, aggregate_id, event_type, event_data, metadata, user_id, sqlstate, error_text
)
VALUES (
    %(writer)s::uuid,
    %(aggregate_type)s::text,
    %(aggregate_id)s::text,
    %(event_type)s::text,
    %(event_data)s::bytea,
    %(metadata)s::bytea,
    %(user_id)s::bigint,
    %(sqlstate)s::text,
    %(error_text)s::text
)
