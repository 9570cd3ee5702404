-- Closes an aggregate, so that it takes no further event, or opens it again; no row when it has no event.
UPDATE aggregates
SET is_closed = %(is_closed)s::boolean
WHERE aggregate_id = %(aggregate_id)s::text
    AND aggregate_type = %(aggregate_type)s::text
RETURNING
    aggregate_id,
    aggregate_type,
    version,
    is_closed
