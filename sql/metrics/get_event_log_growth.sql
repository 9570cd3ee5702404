-- How many events are there, by the planner's estimate, and what is the last position handed out? Null: not known.
SELECT
    -- -1 until the table was analysed for the first time.
    (SELECT nullif(reltuples, -1)::bigint FROM pg_class WHERE oid = to_regclass('event_log')) AS estimated_events,
    CASE
        WHEN to_regclass('event_log_position_seq') IS NULL THEN NULL
        ELSE coalesce(pg_sequence_last_value(to_regclass('event_log_position_seq')), 0)
    END::bigint AS last_position
