-- Sets the search path back, until the transaction ends, to what it was before a projection was used.
-- rootstream: writes
SELECT set_config('search_path', %(previous)s::text, TRUE) AS search_path
