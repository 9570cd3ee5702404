-- Is the schema of a projection there?
SELECT projection_schema_exists(%(projection)s::text, %(suffix)s::text) AS is_there
