-- How many events lie beyond a position, live and archived?
SELECT
    (
        SELECT count(*)
        FROM event_log
        WHERE position > %(after_position)s::bigint
    ) + (
        SELECT count(*)
        FROM event_log_archived
        WHERE covers && int8range(%(after_position)s::bigint, NULL, '(]')
            AND position > %(after_position)s::bigint
    ) AS events
