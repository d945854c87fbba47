"""The questions to PostgreSQL's catalogs. Each may be asked by every role."""

from __future__ import annotations

from sqlalchemy import text

from reaper.database.postgresql.row_security import restrictions_query

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
HIDING = restrictions_query(
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
# A default may stand at the column, or else at the domain that is its type.
SEQUENCES = text("""
SELECT given.column, n.nspname::text AS schema, s.relname::text AS name,
       CASE WHEN s.relkind = 'S' THEN has_sequence_privilege(s.oid, 'USAGE, UPDATE') END AS granted
FROM (
    SELECT a.attname::text AS column, 'pg_attrdef'::regclass AS classid, ad.oid AS objid
    FROM pg_attrdef ad JOIN pg_attribute a ON a.attrelid = ad.adrelid AND a.attnum = ad.adnum
    WHERE ad.adrelid = :oid
    UNION ALL
    SELECT a.attname::text, 'pg_type'::regclass, t.oid
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid AND t.typtype = 'd' AND t.typdefaultbin IS NOT NULL
    WHERE a.attrelid = :oid AND a.attnum > 0 AND NOT a.attisdropped AND NOT a.atthasdef AND a.attidentity = ''
) given
JOIN pg_depend d ON d.classid = given.classid AND d.objid = given.objid AND d.refclassid = 'pg_class'::regclass
JOIN pg_class s ON s.oid = d.refobjid AND s.relkind = 'S'
JOIN pg_namespace n ON n.oid = s.relnamespace
""")
# The table, and what a statement that names it reaches below it: a row that is inserted comes into partitions only.
_HEIRS = """
heirs (oid, partition) AS (
    SELECT CAST(:oid AS oid), true
    UNION
    SELECT i.inhrelid, heirs.partition AND c.relispartition
    FROM heirs JOIN pg_inherits i ON i.inhparent = heirs.oid JOIN pg_class c ON c.oid = i.inhrelid
)"""
# Of a partitioned table's triggers each partition has a copy; others are its own, and fire for single rows alone.
_FIRED = """
fired (oid, event, columns) AS (
    SELECT t.oid, e.event, CASE WHEN e.event = 'UPDATE' THEN ARRAY(
        SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = t.tgrelid AND a.attnum = ANY (t.tgattr)
    ) ELSE '{}' END
    FROM heirs JOIN pg_trigger t ON t.tgrelid = heirs.oid
    JOIN (VALUES (4, 'INSERT'), (8, 'DELETE'), (16, 'UPDATE')) e (bit, event) ON t.tgtype & e.bit > 0
    WHERE NOT t.tgisinternal AND t.tgenabled IN ('O', 'A')
          AND (heirs.oid = :oid OR t.tgtype & 1 > 0 AND (heirs.partition OR e.event <> 'INSERT')
               AND coalesce((to_jsonb(t) ->> 'tgparentid')::oid, 0) = 0)
)"""
# What is called for each row that is written, as the role that writes it: by defaults, generated columns, checks,
# indexes, the keys of partitions, the WHEN of triggers, and the checks of domains. What a trigger itself calls is not
# among them: to fire it asks for no privilege. Nor are the functions that read and write a type.
#
# `within` are types inside of others, which matter for a value alone. A domain of the column itself is asked about
# NULL, too, and one that a default is cast to stands among what the default depends on.
FUNCTIONS = text(f"""
WITH RECURSIVE {_HEIRS}, {_FIRED}, events (event) AS (
    VALUES ('INSERT'), ('UPDATE')
), columns AS (
    SELECT a.attname::text AS name, a.attnum, a.atttypid, a.atthasdef, a.attidentity, a.attgenerated <> '' AS computed
    FROM pg_attribute a WHERE a.attrelid = :oid AND a.attnum > 0 AND NOT a.attisdropped
), types (name, computed, oid, within) AS (
    SELECT name, computed, atttypid, false FROM columns
    UNION
    SELECT types.name, types.computed, inner_one.oid, types.within OR inner_one.within
    FROM types JOIN pg_type t ON t.oid = types.oid CROSS JOIN LATERAL (
        SELECT t.typbasetype, false WHERE t.typtype = 'd'
        UNION ALL
        SELECT t.typelem, true WHERE t.typcategory = 'A' AND t.typtype = 'b'
        UNION ALL
        SELECT a.atttypid, true FROM pg_attribute a
        WHERE a.attrelid = t.typrelid AND t.typtype = 'c' AND a.attnum > 0 AND NOT a.attisdropped
        UNION ALL
        SELECT r.rngsubtype, true FROM pg_range r WHERE r.rngtypid = t.oid
        UNION ALL
        SELECT (to_jsonb(r) ->> 'rngtypid')::oid, true FROM pg_range r
        WHERE t.typtype = 'm' AND (to_jsonb(r) ->> 'rngmultitypid')::oid = t.oid
    ) AS inner_one (oid, within)
), domains (oid, base) AS (
    SELECT oid, oid FROM pg_type WHERE typtype = 'd'
    UNION
    SELECT domains.oid, t.typbasetype FROM domains JOIN pg_type t ON t.oid = domains.base AND t.typtype = 'd'
), asked (classid, objid, event, columns, left_out) AS (
    SELECT 'pg_attrdef'::regclass, ad.oid, 'INSERT', ARRAY[c.name], true
    FROM columns c JOIN pg_attrdef ad ON ad.adrelid = :oid AND ad.adnum = c.attnum WHERE NOT c.computed
    UNION ALL
    SELECT 'pg_type'::regclass, t.oid, 'INSERT', ARRAY[c.name], true
    FROM columns c JOIN pg_type t ON t.oid = c.atttypid AND t.typtype = 'd' AND t.typdefaultbin IS NOT NULL
    WHERE NOT c.atthasdef AND c.attidentity = ''
    UNION ALL
    SELECT 'pg_constraint'::regclass, k.oid, event, CASE WHEN types.within OR event = 'UPDATE' AND NOT types.computed
                                                         THEN ARRAY[types.name] ELSE '{{}}' END, false
    FROM types JOIN pg_constraint k ON k.contypid = types.oid CROSS JOIN events WHERE types.oid <> 0
    UNION ALL
    SELECT own.classid, own.objid, event, '{{}}', false
    FROM heirs CROSS JOIN events CROSS JOIN LATERAL (
        SELECT 'pg_attrdef'::regclass, ad.oid FROM pg_attrdef ad JOIN pg_attribute a
        ON a.attrelid = ad.adrelid AND a.attnum = ad.adnum AND a.attgenerated <> '' WHERE ad.adrelid = heirs.oid
        UNION ALL
        SELECT 'pg_constraint'::regclass, k.oid FROM pg_constraint k
        WHERE k.conrelid = heirs.oid AND k.contype = 'c'
              AND coalesce((to_jsonb(k) ->> 'conenforced')::boolean, true)
        UNION ALL
        SELECT 'pg_class'::regclass, i.indexrelid FROM pg_index i WHERE i.indrelid = heirs.oid
        UNION ALL
        SELECT 'pg_class'::regclass, p.partrelid FROM pg_partitioned_table p
        WHERE p.partrelid = heirs.oid AND (event = 'INSERT' OR EXISTS (
            SELECT FROM pg_inherits i
            WHERE i.inhparent = heirs.oid AND pg_get_partition_constraintdef(i.inhrelid) IS NOT NULL))
    ) AS own (classid, objid)
    WHERE heirs.partition OR event = 'UPDATE'
    UNION ALL
    SELECT 'pg_trigger'::regclass, t.oid, fired.event, fired.columns, false
    FROM fired JOIN pg_trigger t ON t.oid = fired.oid WHERE t.tgqual IS NOT NULL
), evaluated AS (
    SELECT * FROM asked
    UNION
    SELECT 'pg_constraint'::regclass, k.oid, e.event, e.columns, e.left_out
    FROM evaluated e
    JOIN pg_depend d ON d.classid = e.classid AND d.objid = e.objid AND d.objsubid = 0
         AND d.refclassid = 'pg_type'::regclass
    JOIN domains ON domains.oid = d.refobjid JOIN pg_constraint k ON k.contypid = domains.base
), called (oid, event, columns, left_out) AS (
    SELECT DISTINCT coalesce(o.oprcode::oid, d.refobjid), e.event, e.columns, e.left_out
    FROM evaluated e JOIN pg_depend d ON d.classid = e.classid AND d.objid = e.objid AND d.objsubid = 0
    LEFT JOIN pg_operator o ON d.refclassid = 'pg_operator'::regclass AND o.oid = d.refobjid
    LEFT JOIN pg_trigger t ON e.classid = 'pg_trigger'::regclass AND t.oid = e.objid
    LEFT JOIN pg_type y ON e.classid = 'pg_type'::regclass AND y.oid = e.objid
    WHERE (o.oid IS NOT NULL OR d.refclassid = 'pg_proc'::regclass)
          AND d.refobjid IS DISTINCT FROM t.tgfoid
          AND coalesce(d.refobjid NOT IN (y.typinput, y.typoutput, y.typreceive, y.typsend, y.typmodin, y.typmodout,
                                          y.typanalyze), true)
)
SELECT format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)) AS signature,
       called.event, called.columns, called.left_out,
       has_function_privilege(p.oid, 'EXECUTE') AS granted,
       has_function_privilege('public', p.oid, 'EXECUTE') AS public,
       NOT p.prosecdef AND l.lanname NOT IN ('internal', 'c') AS borrows
FROM called
JOIN pg_proc p ON p.oid = called.oid JOIN pg_namespace n ON n.oid = p.pronamespace
JOIN pg_language l ON l.oid = p.prolang
ORDER BY 1, 2, 3
""")  # noqa: S608
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
TRIGGERS = text(f"""
WITH RECURSIVE {_HEIRS}, {_FIRED}
SELECT t.tgname::text AS name, fired.event, fired.columns,
       CASE WHEN NOT p.prosecdef THEN format('%I.%I', n.nspname, p.proname) END AS calls,
       CASE WHEN t.tgrelid <> :oid THEN t.tgrelid::regclass::text END AS "on"
FROM fired JOIN pg_trigger t ON t.oid = fired.oid
JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace n ON n.oid = p.pronamespace
ORDER BY t.tgrelid <> :oid, t.tgname, 5, fired.event
""")  # noqa: S608
# One that puts a single statement in the place of another, and tells what that returned, is taken where rows are
# written within WITH. No other is.
RULES = text("""
SELECT r.rulename::text AS name, e.event,
       r.is_instead AND r.ev_qual::text = '<>' AND pg_get_ruledef(r.oid) ~ ' DO INSTEAD +[^( ]'
       AND pg_get_ruledef(r.oid) LIKE '% RETURNING %' AS taken
FROM pg_rewrite r JOIN (VALUES ('2', 'UPDATE'), ('3', 'INSERT'), ('4', 'DELETE')) e (type, event)
ON r.ev_type::text = e.type
WHERE r.ev_class = :oid AND r.ev_enabled IN ('O', 'A') ORDER BY 1
""")
VIEWED = text("""
SELECT DISTINCT n.nspname::text AS schema, c.relname::text AS name
FROM pg_rewrite r
JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass
JOIN pg_class c ON c.oid = d.refobjid AND c.relkind IN ('r', 'p') JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE r.ev_class = :oid ORDER BY 1, 2
""")
# What reading a view takes of whoever reads it: the tables behind one that has `security_invoker`, wherever that stands
# among the views, and each function that not everybody may execute. Which of them are called depends on the columns
# that are read.
BEHIND = text("""
WITH RECURSIVE read (oid, ours) AS (
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
WHERE read.ours
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
""")
