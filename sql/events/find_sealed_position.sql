-- At which position was the event sealed that is at this one now? No row when at none of the seal.
WITH
seal AS MATERIALIZED (
    SELECT
        positions,
        fingerprints
    FROM event_seals
    WHERE number = %(number)s::bigint
),

-- each position that was sealed, counted
sealed AS MATERIALIZED (
    SELECT
        numbers.position,
        row_number() OVER (ORDER BY numbers.position) AS number
    FROM seal
    CROSS JOIN LATERAL unnest(seal.positions) AS ranges (positions)
    CROSS JOIN LATERAL generate_series(lower(ranges.positions), upper(ranges.positions) - 1) AS numbers (position)
),

-- the event as it is now
events AS (
    SELECT
        version,
        timestamp,
        user_id,
        event_id,
        is_repeatable,
        aggregate_id,
        aggregate_type,
        event_type,
        event_data,
        metadata
    FROM event_log
    WHERE position = %(position)s::bigint
    UNION ALL
    SELECT
        version,
        timestamp,
        user_id,
        event_id,
        is_repeatable,
        aggregate_id,
        aggregate_type,
        event_type,
        event_data,
        metadata
    FROM event_log_archived
    WHERE covers @> %(position)s::bigint
        AND position = %(position)s::bigint
)

SELECT sealed.position
FROM events
CROSS JOIN sealed
CROSS JOIN seal
WHERE substring(
        hash_event(
            sealed.position,
            events.version,
            events.timestamp,
            events.user_id,
            events.event_id,
            events.is_repeatable,
            events.aggregate_id,
            events.aggregate_type,
            events.event_type,
            events.event_data,
            events.metadata
        )
        FROM 1 FOR 8
    ) = substring(seal.fingerprints FROM (8 * sealed.number - 7)::integer FOR 8)
LIMIT 1
