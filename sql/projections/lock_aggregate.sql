-- Has the inline appends to an aggregate come one after another, until the transaction ends: a repeat must see the first.
-- rootstream: writes
SELECT
    pg_advisory_xact_lock(
        hashtextextended(%(aggregate_id)s::text, hashtextextended(%(aggregate_type)s::text, 0))
    )::text AS is_locked
