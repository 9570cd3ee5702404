-- Is an index of this name on this table, is it valid, and which statements would lock its table and drop it?
SELECT
    pg_index.indisvalid AS is_valid,
    format('LOCK TABLE %%s IN SHARE UPDATE EXCLUSIVE MODE', pg_index.indrelid::regclass) AS lock_statement,
    format('DROP INDEX %%I.%%I', pg_namespace.nspname, pg_class.relname) AS drop_statement
FROM pg_index
JOIN pg_class ON pg_class.oid = pg_index.indexrelid
JOIN pg_namespace ON pg_namespace.oid = pg_class.relnamespace
WHERE pg_index.indrelid = to_regclass(%(table)s::text)
    AND pg_class.relname = %(index)s::text::name
