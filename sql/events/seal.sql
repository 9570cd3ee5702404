-- Seals the next range of positions, up to one of them; no row when nothing is left to seal, or another sealer came first.
WITH
-- where the seals end; before position 1 where there is none
latest AS (
    (
        SELECT
            number,
            last_position,
            hash
        FROM event_seals
        ORDER BY number DESC
        LIMIT 1
    )
    UNION ALL
    SELECT
        0,
        0,
        decode(repeat('00', 32), 'hex')
    ORDER BY number DESC
    LIMIT 1
),

-- the range, its end included
bounds AS (
    SELECT
        number + 1 AS number,
        last_position + 1 AS first_position,
        least(last_position + %(limit)s::bigint, %(to_position)s::bigint) AS last_position,
        hash AS previous_hash
    FROM latest
    WHERE last_position < %(to_position)s::bigint
)

INSERT INTO event_seals (
    number, first_position, last_position, event_count, previous_hash, hash, positions, fingerprints
)
SELECT
    bounds.number,
    bounds.first_position,
    bounds.last_position,
    sealed.event_count,
    bounds.previous_hash,
    sealed.hash,
    sealed.positions,
    sealed.fingerprints
FROM bounds
CROSS JOIN LATERAL seal_events(bounds.first_position, bounds.last_position, bounds.previous_hash) AS sealed
ON CONFLICT (number) DO NOTHING
RETURNING
    number,
    first_position,
    last_position,
    event_count,
    hash,
    sealed_at
