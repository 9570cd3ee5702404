-- The next seal after one of this number, and whether what it covers is still what it says.
SELECT
    seals.number,
    seals.first_position,
    seals.last_position,
    seals.event_count,
    seals.previous_hash,
    seals.hash,
    now.hash = seals.hash
    AND now.event_count = seals.event_count
    AND now.positions = seals.positions
    AND now.fingerprints = seals.fingerprints AS is_intact,
    now.altered_erased_position
FROM event_seals AS seals
CROSS JOIN LATERAL seal_events(seals.first_position, seals.last_position, seals.previous_hash) AS now
WHERE seals.number > %(after_number)s::bigint
ORDER BY seals.number ASC
LIMIT 1
