-- Puts a schema of a projection first in the search path until the transaction ends; what the path was before.
-- rootstream: writes
SELECT projection_use_schema(%(projection)s::text, %(suffix)s::text) AS previous
