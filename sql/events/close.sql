-- Closes an aggregate, if it is at the version expected: no further event is accepted.
-- rootstream: null expected
UPDATE aggregates
SET is_closed = TRUE
WHERE aggregate_id = %(aggregate_id)s::text
    AND aggregate_type = %(aggregate_type)s::text
    AND (%(expected)s::bigint IS NULL OR version = %(expected)s::bigint)
RETURNING
    aggregate_id,
    aggregate_type,
    version,
    is_closed
