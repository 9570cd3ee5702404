-- How many live events do these aggregates have?
SELECT count(*) AS events
FROM unnest(%(aggregate_ids)s::text[], %(aggregate_types)s::text[]) AS given (aggregate_id, aggregate_type)
INNER JOIN event_log
    ON event_log.aggregate_id = given.aggregate_id
        AND event_log.aggregate_type = given.aggregate_type
