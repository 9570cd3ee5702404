-- Puts the rebuilt schema of a projection in the place of the one that serves, which is kept as the old one.
-- rootstream: writes
SELECT projection_switch_schemas(%(projection)s::text) AS is_done
