-- Moves the events of closed aggregates into segments and tells how many and how large they were and are.
-- rootstream: writes
SELECT
    aggregates,
    events,
    segments,
    bytes_before,
    bytes_after
FROM archive_events(
    %(aggregate_ids)s::text[], %(aggregate_types)s::text[], %(before)s::timestamptz, %(to_position)s::bigint
)
