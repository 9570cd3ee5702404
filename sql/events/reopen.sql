-- Opens a closed aggregate again.
UPDATE aggregates
SET is_closed = FALSE
WHERE aggregate_id = %(aggregate_id)s::text
    AND aggregate_type = %(aggregate_type)s::text
RETURNING
    aggregate_id,
    aggregate_type,
    version,
    is_closed
