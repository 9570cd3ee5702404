-- Makes the schema of a projection; false when it is there already.
-- rootstream: writes
SELECT projection_create_schema(%(projection)s::text, %(suffix)s::text) AS is_created
