-- Where an aggregate's events end.
SELECT
    aggregate_id,
    aggregate_type,
    version,
    is_closed
FROM aggregates
WHERE aggregate_id = %(aggregate_id)s::text
    AND aggregate_type = %(aggregate_type)s::text
