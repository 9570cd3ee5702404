-- What a schema consists of, as (kind, name, definition) without the schema's own name, so that two can be compared.
-- Left out: the migration table, objects of extensions, and comments. is_partition marks what belongs to a partition.
WITH
-- The schema and how its name appears in a definition.
target AS (
    SELECT oid, quote_ident(nspname) || '.' AS prefix
    FROM pg_namespace
    WHERE nspname = %(schema)s::text
),

-- Tables, views, sequences and such.
relation AS (
    SELECT pg_class.*
    FROM pg_class
    JOIN target ON target.oid = pg_class.relnamespace
    WHERE pg_class.relkind IN ('r', 'p', 'v', 'm', 'S', 'f', 'c')
        AND pg_class.relname <> 'schema_migrations'
        AND NOT EXISTS (
            SELECT 1
            FROM pg_depend
            WHERE pg_depend.classid = 'pg_class'::regclass
                AND pg_depend.objid = pg_class.oid
                AND pg_depend.deptype = 'e'
        )
),

-- Functions and procedures.
routine AS (
    SELECT pg_proc.oid, pg_proc.proname
    FROM pg_proc
    JOIN target ON target.oid = pg_proc.pronamespace
    WHERE pg_proc.prokind <> 'a'
        AND NOT EXISTS (
            SELECT 1
            FROM pg_depend
            WHERE pg_depend.classid = 'pg_proc'::regclass
                AND pg_depend.objid = pg_proc.oid
                AND pg_depend.deptype = 'e'
        )
),

item AS (
    SELECT
        CASE relkind
            WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'S' THEN 'sequence' ELSE 'table'
        END AS kind,
        relname::text AS name,
        concat_ws(
            ' ',
            relkind,
            relpersistence,
            array_to_string(reloptions, ','),
            pg_get_partkeydef(oid),
            pg_get_expr(relpartbound, oid),
            CASE WHEN relkind IN ('v', 'm') THEN pg_get_viewdef(oid) END,
            CASE WHEN relrowsecurity THEN 'row security' END,
            (
                SELECT concat_ws(' ', seqtypid::regtype, seqstart, seqincrement, seqmin, seqmax, seqcache, seqcycle)
                FROM pg_sequence
                WHERE pg_sequence.seqrelid = relation.oid
            )
        ) AS definition,
        relispartition AS is_partition
    FROM relation

    UNION ALL
    SELECT
        'column',
        relation.relname || '.' || pg_attribute.attname,
        concat_ws(
            ' ',
            format_type(pg_attribute.atttypid, pg_attribute.atttypmod),
            CASE WHEN pg_attribute.attnotnull THEN 'NOT NULL' END,
            'identity ' || nullif(pg_attribute.attidentity::text, ''),
            'generated ' || nullif(pg_attribute.attgenerated::text, ''),
            'default ' || pg_get_expr(pg_attrdef.adbin, pg_attrdef.adrelid),
            'collation ' || nullif(pg_attribute.attcollation, 0)::regcollation::text
        ),
        relation.relispartition
    FROM relation
    JOIN pg_attribute ON pg_attribute.attrelid = relation.oid
    LEFT JOIN pg_attrdef ON pg_attrdef.adrelid = relation.oid AND pg_attrdef.adnum = pg_attribute.attnum
    WHERE pg_attribute.attnum > 0
        AND NOT pg_attribute.attisdropped
        AND relation.relkind <> 'S'

    UNION ALL
    SELECT
        'constraint',
        relation.relname || '.' || pg_constraint.conname,
        pg_get_constraintdef(pg_constraint.oid),
        relation.relispartition
    FROM relation
    JOIN pg_constraint ON pg_constraint.conrelid = relation.oid
    WHERE pg_constraint.contype <> 'n' -- NOT NULL is told with its column; before PostgreSQL 18 it has no row here

    UNION ALL
    SELECT
        'index',
        index_class.relname::text,
        concat_ws(' ', pg_get_indexdef(pg_index.indexrelid), CASE WHEN NOT pg_index.indisvalid THEN 'INVALID' END),
        relation.relispartition
    FROM relation
    JOIN pg_index ON pg_index.indrelid = relation.oid
    JOIN pg_class AS index_class ON index_class.oid = pg_index.indexrelid

    UNION ALL
    SELECT
        'trigger',
        relation.relname || '.' || pg_trigger.tgname,
        concat_ws(' ', pg_get_triggerdef(pg_trigger.oid), pg_trigger.tgenabled),
        relation.relispartition
    FROM relation
    JOIN pg_trigger ON pg_trigger.tgrelid = relation.oid
    WHERE NOT pg_trigger.tgisinternal

    UNION ALL
    SELECT
        'policy',
        relation.relname || '.' || pg_policy.polname,
        concat_ws(
            ' ',
            pg_policy.polcmd,
            pg_get_expr(pg_policy.polqual, pg_policy.polrelid),
            pg_get_expr(pg_policy.polwithcheck, pg_policy.polrelid)
        ),
        relation.relispartition
    FROM relation
    JOIN pg_policy ON pg_policy.polrelid = relation.oid

    UNION ALL
    SELECT
        'function',
        proname || '(' || pg_get_function_identity_arguments(oid) || ')',
        pg_get_functiondef(oid),
        FALSE
    FROM routine

    UNION ALL
    SELECT
        'type',
        pg_type.typname::text,
        concat_ws(
            ' ',
            pg_type.typtype,
            (
                SELECT string_agg(quote_literal(enumlabel), ', ' ORDER BY enumsortorder)
                FROM pg_enum
                WHERE pg_enum.enumtypid = pg_type.oid
            ),
            format_type(nullif(pg_type.typbasetype, 0), pg_type.typtypmod),
            CASE WHEN pg_type.typnotnull THEN 'NOT NULL' END,
            pg_type.typdefault,
            (
                SELECT string_agg(pg_get_constraintdef(pg_constraint.oid), ', ' ORDER BY pg_constraint.conname)
                FROM pg_constraint
                WHERE pg_constraint.contypid = pg_type.oid
            )
        ),
        FALSE
    FROM pg_type
    JOIN target ON target.oid = pg_type.typnamespace
    WHERE pg_type.typtype IN ('d', 'e', 'r')
        AND NOT EXISTS (
            SELECT 1
            FROM pg_depend
            WHERE pg_depend.classid = 'pg_type'::regclass
                AND pg_depend.objid = pg_type.oid
                AND pg_depend.deptype = 'e'
        )
)

SELECT
    item.kind,
    replace(item.name, target.prefix, '') AS name,
    replace(item.definition, target.prefix, '') AS definition,
    item.is_partition
FROM item
CROSS JOIN target
ORDER BY item.kind, name
