-- The last position before a point in time, 0 where there is none; positions follow time, so it is found by halving.
WITH RECURSIVE
-- The wanted position is at least `low` and below `high`.
halved (low, high) AS (
    SELECT
        0::bigint AS low,
        coalesce((SELECT position FROM event_log ORDER BY position DESC LIMIT 1), 0) + 1 AS high
    UNION ALL
    SELECT
        CASE WHEN probe.timestamp < %(at)s::timestamptz THEN probe.position ELSE halved.low END,
        CASE WHEN probe.timestamp < %(at)s::timestamptz THEN halved.high ELSE middle.position END
    FROM halved
    CROSS JOIN LATERAL (SELECT halved.low + (halved.high - halved.low) / 2 AS position) AS middle
    -- The first event at or after the middle; numbers may be missing there.
    LEFT JOIN LATERAL (
        SELECT
            event_log.position,
            event_log.timestamp
        FROM event_log
        WHERE event_log.position >= middle.position
            AND event_log.position < halved.high
        ORDER BY event_log.position
        LIMIT 1
    ) AS probe ON TRUE
    WHERE halved.high - halved.low > 1
)

SELECT low AS position
FROM halved
ORDER BY high - low
LIMIT 1
