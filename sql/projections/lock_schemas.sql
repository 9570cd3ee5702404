-- Waits until nobody else makes or replaces the schemas of a projection, and keeps others from it.
-- rootstream: writes
SELECT projection_lock(%(projection)s::text) AS is_locked
