-- Drops a schema of a projection with all that is in it; false when there is none.
-- rootstream: writes
SELECT projection_drop_schema(%(projection)s::text, %(suffix)s::text) AS is_dropped
