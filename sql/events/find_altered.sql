-- The first event of a sealed range that is not what was sealed: altered, missing, or inserted; no row when all are.
WITH
seal AS MATERIALIZED (
    SELECT
        first_position,
        last_position,
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

-- and with what is left of its digest
sealed_events AS MATERIALIZED (
    SELECT
        sealed.position,
        substring(seal.fingerprints FROM (8 * sealed.number - 7)::integer FOR 8) AS fingerprint
    FROM sealed
    CROSS JOIN seal
),

-- what is there now; of several at one position the one that was sealed comes first
present AS (
    SELECT
        events.event_position AS position,
        events.aggregate_id,
        events.aggregate_type,
        events.version,
        substring(events.hash FROM 1 FOR 8) AS fingerprint,
        row_number() OVER (
            PARTITION BY events.event_position
            ORDER BY substring(events.hash FROM 1 FOR 8) = sealed_events.fingerprint DESC NULLS LAST
        ) AS number
    FROM seal
    CROSS JOIN LATERAL list_event_hashes(seal.first_position, seal.last_position) AS events
    LEFT JOIN sealed_events ON sealed_events.position = events.event_position
)

SELECT
    CASE
        WHEN sealed_events.position IS NULL OR present.number > 1 THEN 'inserted'
        WHEN present.position IS NULL THEN 'missing'
        ELSE 'altered'
    END AS kind,
    coalesce(sealed_events.position, present.position) AS position,
    present.aggregate_type,
    present.aggregate_id,
    present.version
FROM sealed_events
FULL JOIN present ON present.position = sealed_events.position
WHERE present.fingerprint IS DISTINCT FROM sealed_events.fingerprint
    OR present.number > 1
ORDER BY position ASC, present.number ASC
LIMIT 1
