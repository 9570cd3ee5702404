-- How far each partition of each subscription is behind the horizon, and who reads it.
SELECT
    subscriptions.name,
    subscriptions.partition,
    subscriptions.partitions,
    subscriptions.position,
    %(horizon)s::bigint AS horizon,
    %(last_position)s::bigint AS last_position,
    greatest(%(horizon)s::bigint - subscriptions.position, 0) AS positions_behind,
    (
        -- The age of the older of the two; null, not 0, when there is none.
        SELECT greatest(extract(EPOCH FROM clock_timestamp() - oldest.timestamp), 0)::double precision
        FROM (
            -- The oldest event that was not handled; walked to by position, past those of other partitions.
            (
                SELECT event_log.timestamp
                FROM event_log
                WHERE event_log.position > subscriptions.position
                    AND event_log.position <= %(horizon)s::bigint
                    AND (
                        subscriptions.partitions = 1
                        OR event_partition(
                            event_log.aggregate_type, event_log.aggregate_id, subscriptions.partitions
                        ) = subscriptions.partition
                    )
                ORDER BY event_log.position
                LIMIT 1
            )
            UNION ALL
            -- The oldest archived one: the first after the checkpoint of the segments that reach beyond it.
            (
                SELECT unpacked.timestamp
                FROM event_segments AS segments
                CROSS JOIN LATERAL (
                    SELECT width_bucket(subscriptions.position, segments.positions) + 1 AS number
                    OFFSET 0
                ) AS first
                CROSS JOIN LATERAL unpack_events(segments, first.number, first.number) AS unpacked
                WHERE int8range(segments.first_position, segments.last_position, '[]')
                    && int8range(subscriptions.position, %(horizon)s::bigint, '(]')
                    AND subscriptions.position < %(horizon)s::bigint
                    AND (
                        subscriptions.partitions = 1
                        OR event_partition(
                            segments.aggregate_type, segments.aggregate_id, subscriptions.partitions
                        ) = subscriptions.partition
                    )
                ORDER BY unpacked.position
                LIMIT 1
            )
        ) AS oldest
        ORDER BY oldest.timestamp
        LIMIT 1
    ) AS seconds_behind,
    subscriptions.owner,
    subscriptions.lease_expires_at,
    coalesce(subscriptions.lease_expires_at > clock_timestamp(), FALSE) AS is_leased,
    subscriptions.failed_position,
    subscriptions.attempts,
    subscriptions.last_error,
    (
        SELECT count(*)
        FROM parked_events
        WHERE parked_events.name = subscriptions.name
            AND parked_events.partition = subscriptions.partition
    ) AS parked,
    subscriptions.updated_at
FROM subscriptions
ORDER BY subscriptions.name, subscriptions.partition
