-- Gives a projection the checkpoint and the parked events of its rebuilt copy.
WITH
-- those of the copy that is replaced
forgotten AS (
    DELETE FROM parked_events
    WHERE name = %(name)s::text
        AND position NOT IN (
            SELECT parked.position
            FROM parked_events AS parked
            WHERE parked.name = %(rebuild_name)s::text
        )
),

-- those of both stay as they are
doubled AS (
    DELETE FROM parked_events
    WHERE name = %(rebuild_name)s::text
        AND position IN (
            SELECT parked.position
            FROM parked_events AS parked
            WHERE parked.name = %(name)s::text
        )
),

taken AS (
    UPDATE parked_events
    SET name = %(name)s::text
    WHERE name = %(rebuild_name)s::text
        AND position NOT IN (
            SELECT parked.position
            FROM parked_events AS parked
            WHERE parked.name = %(name)s::text
        )
),

ended AS (
    DELETE FROM subscriptions
    WHERE name = %(rebuild_name)s::text
)

UPDATE subscriptions
SET position = %(position)s::bigint,
    failed_position = 0,
    attempts = 0,
    last_error = NULL,
    updated_at = clock_timestamp()
WHERE name = %(name)s::text
