-- Which columns has the table schema_migrations on the search path? No row when there is none.
SELECT attname::text AS column_name
FROM pg_attribute
WHERE attrelid = to_regclass('schema_migrations')
    AND attnum > 0
    AND NOT attisdropped
ORDER BY attnum
