"""The questions to PostgreSQL's catalogs. Each may be asked by every role."""

from __future__ import annotations

from sqlalchemy import text

from reaper.source.postgresql.policies import hiding

SERVER = text("""
SELECT current_user AS role, current_database() AS database, pg_is_in_recovery() AS standby,
       current_setting('default_transaction_read_only') = 'on' AS read_only,
       current_setting('server_version_num')::integer / 10000 AS version,
       current_setting('search_path') AS search_path, clock_timestamp() AS now,
       pg_postmaster_start_time() AS started,
       pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') AS sees_sessions,
       ARRAY(SELECT word FROM pg_get_keywords() WHERE catcode <> 'U') AS keywords
""")
LIMIT = text("SELECT set_config('statement_timeout', :limit, true)")
# What the session began with: a transaction of ours may have set its own already.
TIMEOUTS = text("""
SELECT name, reset_val::bigint / 1000.0 AS seconds FROM pg_settings
WHERE name IN ('statement_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout') ORDER BY name
""")
RELATIONS = text("""
SELECT c.oid, n.nspname::text AS schema, c.relname::text AS name, c.relkind::text AS kind,
       greatest(c.reltuples, 0)::bigint AS rows, pg_table_is_visible(c.oid) AS visible,
       has_schema_privilege(n.oid, 'USAGE') AS usage,
       has_table_privilege(c.oid, 'DELETE') AS delete,
       coalesce((SELECT has_column_privilege(a.attrelid, a.attnum, 'SELECT') FROM pg_attribute a
           WHERE a.attrelid = c.oid AND a.attname = 'xmax'), true) AS holder,
       has_table_privilege(c.oid, 'UPDATE, DELETE, TRUNCATE' ||
           CASE WHEN current_setting('server_version_num')::integer >= 170000 THEN ', MAINTAIN' ELSE '' END) AS close
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relname = CAST(:name AS text)
ORDER BY 2
""")
# The same for whoever connects as the role, unless a client says otherwise: what is set for it, or for the database,
# goes before the server's own.
SEARCH_PATH = text("""
SELECT coalesce(
    (SELECT substr(one, length('search_path=') + 1)
     FROM pg_db_role_setting s CROSS JOIN unnest(s.setconfig) AS one LEFT JOIN pg_roles r ON r.oid = s.setrole
     WHERE one LIKE 'search\\_path=%' AND (s.setrole = 0 OR r.rolname = CAST(:role AS text))
           AND s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
     ORDER BY s.setrole <> 0 DESC, s.setdatabase <> 0 DESC LIMIT 1),
    CASE WHEN source IN ('default', 'configuration file') THEN setting ELSE boot_val END)
FROM pg_settings WHERE name = 'search_path'
""")
SCHEMAS = text("SELECT nspname::text FROM pg_namespace")
HIDING = hiding(
    "(SELECT CAST(:oid AS oid))",
    "(SELECT oid FROM pg_roles WHERE rolname = CAST(:role AS text))",
    "ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']",
)
ROLE = text("SELECT 1 FROM pg_roles WHERE rolname = CAST(:name AS text)")
NAMES = text("""
SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
      AND CASE WHEN CAST(:schema AS text) IS NULL THEN pg_table_is_visible(c.oid) ELSE n.nspname = :schema END
""")
# Not SQLAlchemy's inspector: it asks for the sequence behind an identity, which fails for a role that may not use
# the schema. A domain is taken for the type that it restricts.
COLUMNS = text("""
SELECT a.attname::text AS name, format_type(a.atttypid, a.atttypmod) AS words, b.typname::text AS base,
       ARRAY(SELECT e.enumlabel::text FROM pg_enum e WHERE e.enumtypid = b.oid ORDER BY e.enumsortorder) AS labels,
       CASE WHEN b.typname IN ('varchar', 'bpchar')
            THEN nullif(greatest(a.atttypmod, t.typtypmod), -1) - 4 END AS length,
       NOT (a.attnotnull OR t.typnotnull) AS nullable,
       a.atthasdef OR a.attidentity <> '' OR t.typdefault IS NOT NULL AS filled,
       a.attgenerated <> '' OR a.attidentity = 'a' AS computed,
       has_column_privilege(a.attrelid, a.attnum, 'SELECT') AS select,
       has_column_privilege(a.attrelid, a.attnum, 'UPDATE') AS update,
       has_column_privilege(a.attrelid, a.attnum, 'INSERT') AS insert
FROM pg_attribute a
JOIN pg_type t ON t.oid = a.atttypid JOIN pg_type b ON b.oid = coalesce(nullif(t.typbasetype, 0), t.oid)
WHERE a.attrelid = :oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
""")
SEQUENCES = text("""
SELECT a.attname::text AS column, n.nspname::text AS schema, s.relname::text AS name,
       CASE WHEN s.relkind = 'S' THEN has_sequence_privilege(s.oid, 'USAGE, UPDATE') END AS granted
FROM pg_attrdef ad
JOIN pg_attribute a ON a.attrelid = ad.adrelid AND a.attnum = ad.adnum
JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = ad.oid AND d.refclassid = 'pg_class'::regclass
JOIN pg_class s ON s.oid = d.refobjid AND s.relkind = 'S'
JOIN pg_namespace n ON n.oid = s.relnamespace
WHERE ad.adrelid = :oid
""")
# What is called for each row that is written, as the role that writes it: defaults and generated columns, checks of
# the table and of the domains of its columns, expressions of indexes. What a trigger calls is not among them: to fire
# it asks for no privilege.
FUNCTIONS = text("""
WITH RECURSIVE types (oid) AS (
    SELECT atttypid FROM pg_attribute WHERE attrelid = :oid AND attnum > 0 AND NOT attisdropped
    UNION
    SELECT t.typbasetype FROM types JOIN pg_type t ON t.oid = types.oid AND t.typtype = 'd'
)
SELECT format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)) AS signature,
       CASE WHEN bool_and(called.column IS NOT NULL) THEN min(called.column) END AS default_of,
       has_function_privilege(p.oid, 'EXECUTE') AS granted,
       has_function_privilege('public', p.oid, 'EXECUTE') AS public,
       NOT p.prosecdef AND l.lanname NOT IN ('internal', 'c') AS borrows
FROM (
    SELECT d.refobjid AS oid, CASE WHEN a.attgenerated = '' THEN a.attname::text END AS column
    FROM pg_attrdef ad JOIN pg_attribute a ON a.attrelid = ad.adrelid AND a.attnum = ad.adnum
    JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = ad.oid
    WHERE ad.adrelid = :oid AND d.refclassid = 'pg_proc'::regclass
    UNION ALL
    SELECT d.refobjid, NULL FROM pg_constraint c
    JOIN pg_depend d ON d.classid = 'pg_constraint'::regclass AND d.objid = c.oid
    WHERE (c.conrelid = :oid AND c.contype = 'c' OR c.contypid IN (SELECT oid FROM types WHERE oid <> 0))
          AND d.refclassid = 'pg_proc'::regclass
    UNION ALL
    SELECT d.refobjid, NULL FROM pg_index i
    JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid
    WHERE i.indrelid = :oid AND d.refclassid = 'pg_proc'::regclass
) called
JOIN pg_proc p ON p.oid = called.oid JOIN pg_namespace n ON n.oid = p.pronamespace
JOIN pg_language l ON l.oid = p.prolang
GROUP BY p.oid, n.nspname, p.proname, p.prosecdef, l.lanname ORDER BY 1
""")
INDEXES = text("""
SELECT n.nspname::text AS schema, c.relname::text AS name, am.amname = 'btree' AS ordered,
       i.indisunique AND i.indimmediate AS unique, i.indisvalid AS valid,
       pg_get_expr(i.indpred, i.indrelid) AS predicate,
       ARRAY(SELECT a.attname::text FROM unnest(i.indkey) WITH ORDINALITY AS k (attnum, place)
             LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum AND k.attnum > 0
             WHERE k.place <= i.indnkeyatts ORDER BY k.place) AS columns
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_am am ON am.oid = c.relam
WHERE i.indrelid = :oid ORDER BY c.relname
""")
# A constraint that is not enforced, which newer versions know, binds nobody.
CONSTRAINTS = text("""
SELECT c.conname::text AS name, c.contype::text AS type, c.confrelid AS refers_to,
       pg_get_expr(c.conbin, c.conrelid) AS expression,
       ARRAY(SELECT a.attname::text FROM pg_attribute a
             WHERE a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey)) AS columns
FROM pg_constraint c
WHERE c.conrelid = :oid AND c.contype IN ('c', 'f')
      AND coalesce((to_jsonb(c) ->> 'conenforced')::boolean, true)
ORDER BY c.conname
""")
TRIGGERS = text("""
SELECT t.tgname::text AS name, e.event,
       CASE WHEN NOT p.prosecdef THEN format('%I.%I', n.nspname, p.proname) END AS calls,
       ARRAY(SELECT a.attname::text FROM pg_attribute a
             WHERE a.attrelid = t.tgrelid AND a.attnum = ANY (t.tgattr)) AS columns
FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace n ON n.oid = p.pronamespace
JOIN (VALUES (4, 'INSERT'), (8, 'DELETE'), (16, 'UPDATE')) e (bit, event) ON t.tgtype & e.bit > 0
WHERE t.tgrelid = :oid AND NOT t.tgisinternal AND t.tgenabled IN ('O', 'A')
ORDER BY t.tgname, e.bit
""")
VIEWED = text("""
SELECT DISTINCT n.nspname::text AS schema, c.relname::text AS name
FROM pg_rewrite r
JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass
JOIN pg_class c ON c.oid = d.refobjid AND c.relkind IN ('r', 'p') JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE r.ev_class = :oid ORDER BY 1, 2
""")
