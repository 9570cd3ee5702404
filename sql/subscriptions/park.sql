-- Keeps an event that a subscription gives up, with the reason.
INSERT INTO parked_events AS parked (
    name, position, partition, aggregate_type, aggregate_id, event_type, attempts, error_class, error_text
)
VALUES (
    %(name)s::text,
    %(position)s::bigint,
    %(partition)s::bigint,
    %(aggregate_type)s::text,
    %(aggregate_id)s::text,
    %(event_type)s::text,
    %(attempts)s::bigint,
    %(error_class)s::text,
    %(error_text)s::text
)
ON CONFLICT (name, position) DO UPDATE
SET attempts = excluded.attempts,
    error_class = excluded.error_class,
    error_text = excluded.error_text,
    parked_at = excluded.parked_at
