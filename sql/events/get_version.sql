-- The version of an aggregate's last event, 0 when it has none.
SELECT
    coalesce((
        SELECT version
        FROM aggregates
        WHERE aggregate_id = %(aggregate_id)s::text
            AND aggregate_type = %(aggregate_type)s::text
    ), 0) AS version
