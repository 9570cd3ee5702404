-- The last position before a point in time, 0 where there is none; positions follow time, so it is found by halving.
WITH RECURSIVE
-- The wanted position is at least `low` and below `high`.
halved (low, high) AS (
    SELECT
        0::bigint AS low,
        greatest(
            (SELECT position FROM event_log ORDER BY position DESC LIMIT 1),
            -- Of the segments that begin last, and of those that reach beyond them.
            (
                SELECT max(last_position)
                FROM event_segments
                WHERE int8range(first_position, last_position, '[]')
                    && int8range((SELECT first_position FROM event_segments ORDER BY first_position DESC LIMIT 1), NULL)
            ),
            0
        ) + 1 AS high
    UNION ALL
    SELECT
        CASE WHEN probe.timestamp < %(at)s::timestamptz THEN probe.position ELSE halved.low END,
        CASE WHEN probe.timestamp < %(at)s::timestamptz THEN halved.high ELSE middle.position END
    FROM halved
    CROSS JOIN LATERAL (SELECT halved.low + (halved.high - halved.low) / 2 AS position) AS middle
    -- The first segment that begins at or after the middle.
    LEFT JOIN LATERAL (
        SELECT first_position
        FROM event_segments
        WHERE first_position >= middle.position
            AND first_position < halved.high
        ORDER BY first_position ASC
        LIMIT 1
    ) AS following ON TRUE
    -- The first event at or after the middle; numbers may be missing there.
    LEFT JOIN LATERAL (
        SELECT
            candidates.position,
            candidates.timestamp
        FROM (
            (
                SELECT
                    event_log.position,
                    event_log.timestamp
                FROM event_log
                WHERE event_log.position >= middle.position
                    AND event_log.position < halved.high
                ORDER BY event_log.position ASC
                LIMIT 1
            )
            UNION ALL
            -- Archived: in a segment that goes on beyond the middle, or in the one that begins next.
            (
                SELECT
                    events.position,
                    events.timestamp
                FROM event_segments AS segments
                CROSS JOIN LATERAL unnest(segments.positions, segments.timestamps) AS events (position, timestamp)
                WHERE int8range(segments.first_position, segments.last_position, '[]')
                    && int8range(middle.position, coalesce(following.first_position, middle.position), '[]')
                    AND events.position >= middle.position
                    AND events.position < halved.high
                ORDER BY events.position ASC
                LIMIT 1
            )
        ) AS candidates
        ORDER BY candidates.position ASC
        LIMIT 1
    ) AS probe ON TRUE
    WHERE halved.high - halved.low > 1
)

SELECT low AS position
FROM halved
ORDER BY high - low
LIMIT 1
