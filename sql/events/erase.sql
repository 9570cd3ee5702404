-- Empties the events that a user caused and those of named aggregates, and logs it; no operation where none was left.
-- rootstream: null user_id, requested_by
-- rootstream: writes
SELECT
    operation,
    events,
    archived_events,
    aggregates,
    snapshots
FROM erase_events(
    %(user_id)s::bigint,
    %(aggregate_types)s::text[],
    %(aggregate_ids)s::text[],
    %(reason)s::text,
    %(requested_by)s::text
)
