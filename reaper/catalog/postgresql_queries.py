"""The queries of PostgreSQL's catalogs about the server, its tables and views. Every role may run them."""

from __future__ import annotations

from reaper.database.postgresql.row_security import restrictions_query
from reaper.database.postgresql.settings import set_for_transaction

SERVER = """
SELECT current_user AS role, current_database() AS database, pg_is_in_recovery() AS standby,
       current_setting('default_transaction_read_only') = 'on' AS read_only,
       current_setting('server_version_num')::integer / 10000 AS version,
       clock_timestamp() AS now,
       pg_postmaster_start_time() AS started,
       pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') AS sees_sessions,
       ARRAY(SELECT word FROM pg_get_keywords() WHERE catcode <> 'U') AS keywords
"""
LIMIT = "SELECT " + set_for_transaction({"statement_timeout": ":limit", "search_path": ":path"})
# reset_val is what the session began with; our own transaction may have set another value.
TIMEOUTS = """
SELECT name, reset_val::bigint / 1000.0 AS seconds FROM pg_settings
WHERE name IN ('statement_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout') ORDER BY name
"""
RELATIONS = """
SELECT c.oid, n.nspname::text AS schema, c.relname::text AS name, c.relkind::text AS kind,
       greatest(c.reltuples, 0)::bigint AS rows,
       ARRAY(SELECT a.attname::text FROM pg_partitioned_table p JOIN pg_attribute a ON a.attrelid = p.partrelid
             AND a.attnum = ANY (CAST(p.partattrs AS int2[])) WHERE p.partrelid = c.oid) AS partitioned_by,
       -- Without INSTEAD OF triggers: of such a view, the server locks the rows of one table, of others perhaps none.
       c.relkind = 'v' AND pg_relation_is_updatable(c.oid, false) & 4 <> 0 AND NOT EXISTS (
           WITH RECURSIVE read (oid) AS (
               SELECT c.oid UNION SELECT d.refobjid FROM read
               JOIN pg_rewrite w ON w.ev_class = read.oid AND w.ev_type = '1'
               JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
                    AND d.refclassid = 'pg_class'::regclass
           ) SELECT FROM read JOIN pg_class f ON f.oid = read.oid WHERE f.relkind = 'f') AS updatable,
       has_schema_privilege(n.oid, 'USAGE') AS usage,
       has_table_privilege(c.oid, 'DELETE') AS delete,
       coalesce((SELECT has_column_privilege(a.attrelid, a.attnum, 'SELECT') FROM pg_attribute a
           WHERE a.attrelid = c.oid AND a.attname = 'xmax'), true) AS read_row_holder,
       has_table_privilege(c.oid, 'UPDATE, DELETE, TRUNCATE' ||
           CASE WHEN current_setting('server_version_num')::integer >= 170000 THEN ', MAINTAIN' ELSE '' END)
           AS lock_table
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relname = CAST(:name AS text)
ORDER BY 2
"""
# The search path with which the role's sessions begin, unless the client sets one: ALTER ROLE and ALTER DATABASE go
# before the server's own setting.
SEARCH_PATH = """
SELECT coalesce(
    (SELECT substr(one, length('search_path=') + 1)
     FROM pg_db_role_setting s CROSS JOIN unnest(s.setconfig) AS one LEFT JOIN pg_roles r ON r.oid = s.setrole
     WHERE one LIKE 'search\\_path=%' AND (s.setrole = 0 OR r.rolname = CAST(:role AS text))
           AND s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
     ORDER BY s.setrole <> 0 DESC, s.setdatabase <> 0 DESC LIMIT 1),
    CASE WHEN source IN ('default', 'configuration file') THEN setting ELSE boot_val END)
FROM pg_settings WHERE name = 'search_path'
"""
# A role that does not exist yet has only what PUBLIC has.
SCHEMAS = """
SELECT n.nspname::text AS name,
       has_schema_privilege(coalesce((SELECT r.oid FROM pg_roles r WHERE r.rolname = CAST(:role AS text)), 0::oid),
                            n.oid, 'USAGE') AS usage
FROM pg_namespace n
"""
ROW_RESTRICTIONS = restrictions_query(
    "(SELECT CAST(:oid AS oid))",
    "(SELECT oid FROM pg_roles WHERE rolname = CAST(:role AS text))",
    "ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']",
)
ROLE = "SELECT 1 FROM pg_roles WHERE rolname = CAST(:name AS text)"
NAMES = """
SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
      AND CASE WHEN CAST(:schema AS text) IS NULL THEN n.nspname = ANY (CAST(:path AS text[]))
               ELSE n.nspname = :schema END
"""
# Not SQLAlchemy's inspector, which looks up the sequence of an identity column and so fails for a role that may not use
# the schema. A domain counts as the type that it restricts.
COLUMNS = """
SELECT a.attname::text AS name, format_type(a.atttypid, a.atttypmod) AS type, b.typname::text AS base,
       format_type(b.oid, greatest(a.atttypmod, t.typtypmod)) AS base_type,
       ARRAY(SELECT e.enumlabel::text FROM pg_enum e WHERE e.enumtypid = b.oid ORDER BY e.enumsortorder) AS labels,
       CASE WHEN b.typname IN ('varchar', 'bpchar')
            THEN nullif(greatest(a.atttypmod, t.typtypmod), -1) - 4 END AS length,
       NOT (a.attnotnull OR t.typnotnull) AS nullable,
       a.atthasdef OR a.attidentity <> '' OR t.typdefault IS NOT NULL AS has_default,
       a.attgenerated <> '' OR a.attidentity = 'a' AS generated, a.attgenerated <> 'v' AS stored,
       ARRAY(SELECT other.attname::text FROM pg_depend d
             JOIN pg_attribute other ON other.attrelid = d.refobjid AND other.attnum = d.refobjsubid
             WHERE a.attgenerated <> '' AND d.refclassid = 'pg_class'::regclass AND d.refobjid = a.attrelid
                   AND d.refobjsubid NOT IN (0, a.attnum)
                   AND (d.classid, d.objid, d.objsubid) IN (
                       SELECT 'pg_class'::regclass, a.attrelid, a.attnum UNION ALL
                       SELECT 'pg_attrdef'::regclass, e.oid, 0 FROM pg_attrdef e
                       WHERE e.adrelid = a.attrelid AND e.adnum = a.attnum)) AS generated_from,
       has_column_privilege(a.attrelid, a.attnum, 'SELECT') AS select,
       has_column_privilege(a.attrelid, a.attnum, 'UPDATE') AS update,
       has_column_privilege(a.attrelid, a.attnum, 'INSERT') AS insert
FROM pg_attribute a
JOIN pg_type t ON t.oid = a.atttypid JOIN pg_type b ON b.oid = coalesce(nullif(t.typbasetype, 0), t.oid)
WHERE a.attrelid = :oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
INDEXES = """
SELECT n.nspname::text AS schema, c.relname::text AS name, am.amname = 'btree' AS ordered,
       i.indisunique AND i.indimmediate AS unique, i.indisvalid AS valid,
       pg_get_expr(i.indpred, i.indrelid) AS predicate,
       ARRAY(SELECT a.attname::text FROM unnest(i.indkey) WITH ORDINALITY AS k (attnum, place)
             LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum AND k.attnum > 0
             WHERE k.place <= i.indnkeyatts ORDER BY k.place) AS columns
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_am am ON am.oid = c.relam
WHERE i.indrelid = :oid ORDER BY c.relname
"""
# conenforced: PostgreSQL 18 has constraints that are not enforced; they are left out.
CONSTRAINTS = """
SELECT c.conname::text AS name, c.contype::text AS type, c.confrelid AS refers_to,
       pg_get_expr(c.conbin, c.conrelid) AS expression,
       ARRAY(SELECT a.attname::text FROM pg_attribute a
             WHERE a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey)) AS columns
FROM pg_constraint c
WHERE c.conrelid = :oid AND c.contype IN ('c', 'f')
      AND coalesce((to_jsonb(c) ->> 'conenforced')::boolean, true)
ORDER BY c.conname
"""
# Without partitions, which are parts of a table that is there, and without tables of PostgreSQL and of sessions.
EVERY_TABLE = """
SELECT n.nspname::text AS schema, c.relname::text AS name,
       ARRAY(SELECT a.attname::text FROM pg_attribute a
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum) AS columns
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition AND n.nspname <> 'information_schema'
      AND n.nspname NOT LIKE 'pg\\_%'
ORDER BY 1, 2
"""
REFERRING = """
SELECT DISTINCT n.nspname::text AS schema, c.relname::text AS name
FROM pg_constraint f JOIN pg_class c ON c.oid = f.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE f.contype = 'f' AND f.confrelid = :oid AND f.conrelid <> f.confrelid AND NOT c.relispartition
ORDER BY 1, 2
"""
TABLES_BEHIND = """
WITH RECURSIVE read (oid) AS (
    SELECT CAST(:oid AS oid)
    UNION
    SELECT d.refobjid FROM read JOIN pg_rewrite r ON r.ev_class = read.oid AND r.ev_type = '1'
    JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass
)
SELECT c.oid, n.nspname::text AS schema, c.relname::text AS name
FROM read JOIN pg_class c ON c.oid = read.oid AND c.relkind IN ('r', 'p') JOIN pg_namespace n ON n.oid = c.relnamespace
ORDER BY 2, 3
"""
# The privileges that reading a view may need besides SELECT on it: SELECT on the tables behind a view with
# `security_invoker` (also of a view that this one reads), and EXECUTE on every function that is not granted to PUBLIC.
# Which functions are called depends on the columns that are read.
VIEW_REQUIREMENTS = """
WITH RECURSIVE read (oid, as_reader) AS (
    SELECT CAST(:oid AS oid), false
    UNION
    SELECT d.refobjid, EXISTS (
        SELECT FROM pg_options_to_table(v.reloptions) WHERE option_name = 'security_invoker' AND option_value::boolean
    )
    FROM read JOIN pg_class v ON v.oid = read.oid AND v.relkind = 'v'
    JOIN pg_rewrite w ON w.ev_class = v.oid AND w.ev_type = '1'
    JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid AND d.refclassid = 'pg_class'::regclass
    WHERE d.refobjid <> v.oid
)
SELECT format('SELECT on %I.%I', n.nspname, c.relname) AS needed
FROM read JOIN pg_class c ON c.oid = read.oid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE read.as_reader
UNION
SELECT format('EXECUTE on %I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid))
FROM read JOIN pg_class v ON v.oid = read.oid AND v.relkind = 'v'
JOIN pg_rewrite w ON w.ev_class = v.oid AND w.ev_type = '1'
JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
LEFT JOIN pg_operator o ON d.refclassid = 'pg_operator'::regclass AND o.oid = d.refobjid
JOIN pg_proc p ON p.oid = coalesce(o.oprcode, d.refobjid) JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE (o.oid IS NOT NULL OR d.refclassid = 'pg_proc'::regclass)
      AND NOT has_function_privilege('public', p.oid, 'EXECUTE')
ORDER BY 1
"""
# Of the roles that may CREATE in a schema: those that are neither this one nor an administrator, and own none of the
# tables. The members of pg_database_owner are the owner of the database.
CREATORS = """
SELECT n.nspname::text AS schema, coalesce(g.rolname::text, 'PUBLIC') AS role
FROM unnest(CAST(:schemas AS text[])) WITH ORDINALITY AS asked (name, place)
JOIN pg_namespace n ON n.nspname = asked.name
CROSS JOIN LATERAL aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) AS acl
LEFT JOIN pg_roles r ON r.oid = acl.grantee
LEFT JOIN pg_database d ON r.rolname = 'pg_database_owner' AND d.datname = current_database()
LEFT JOIN pg_roles g ON g.oid = coalesce(d.datdba, r.oid)
WHERE acl.privilege_type = 'CREATE' AND NOT coalesce(g.rolsuper, false) AND n.nspname <> 'pg_catalog'
      AND coalesce(g.rolname <> current_user, true)
      AND coalesce(g.oid, 0) NOT IN (SELECT c.relowner FROM pg_class c WHERE c.oid = ANY (CAST(:tables AS oid[])))
GROUP BY 1, 2 ORDER BY min(asked.place), 2
"""
SCHEMA_CREATORS = """
SELECT coalesce(r.rolname::text, 'PUBLIC') AS role
FROM pg_database d CROSS JOIN LATERAL aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) AS acl
LEFT JOIN pg_roles r ON r.oid = acl.grantee
WHERE d.datname = current_database() AND acl.privilege_type = 'CREATE' AND NOT coalesce(r.rolsuper, false)
      AND coalesce(r.rolname <> current_user, true)
      AND coalesce(r.oid, 0) NOT IN (SELECT c.relowner FROM pg_class c WHERE c.oid = ANY (CAST(:tables AS oid[])))
GROUP BY 1 ORDER BY 1
"""
SCHEMAS_OF = """
SELECT found.kind, found.name, n.nspname::text AS schema
FROM (
    SELECT 'function' AS kind, proname::text AS name, pronamespace AS namespace
    FROM pg_proc WHERE proname = ANY (CAST(:function AS text[]))
    UNION SELECT 'operator', oprname::text, oprnamespace FROM pg_operator
    WHERE oprname = ANY (CAST(:operator AS text[]))
    UNION SELECT 'table', relname::text, relnamespace FROM pg_class
    WHERE relkind IN ('r', 'p', 'v', 'm', 'f') AND relname = ANY (CAST(:table AS text[]))
    UNION SELECT 'type', typname::text, typnamespace FROM pg_type WHERE typname = ANY (CAST(:type AS text[]))
) AS found JOIN pg_namespace n ON n.oid = found.namespace
"""
