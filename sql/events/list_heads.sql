-- Where the events of several aggregates end; no row for one that has none.
SELECT
    aggregates.aggregate_id,
    aggregates.aggregate_type,
    aggregates.version,
    aggregates.is_closed
FROM
    ROWS FROM (
        unnest(%(aggregate_ids)s::text[]),
        unnest(%(aggregate_types)s::text[])
    ) AS wanted (aggregate_id, aggregate_type)
INNER JOIN aggregates
    ON aggregates.aggregate_id = wanted.aggregate_id AND aggregates.aggregate_type = wanted.aggregate_type
