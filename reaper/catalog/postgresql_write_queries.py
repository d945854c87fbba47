"""The queries of PostgreSQL's catalogs about what the server runs when a row is written. Every role may run them."""

from __future__ import annotations

# A column takes its default from itself, or from the domain that is its type.
SEQUENCES = """
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
"""
# The table and everything below it that a statement on it reaches. An inserted row goes to partitions only, never to
# tables that inherit.
_DESCENDANTS = """
descendants (oid, partition) AS (
    SELECT CAST(:oid AS oid), true
    UNION
    SELECT i.inhrelid, descendants.partition AND c.relispartition
    FROM descendants JOIN pg_inherits i ON i.inhparent = descendants.oid JOIN pg_class c ON c.oid = i.inhrelid
)"""
# Every partition has a copy of each trigger of its partitioned table; the copies are left out. A trigger that only the
# partition has fires for rows that arrive through the partitioned table, if it is FOR EACH ROW.
_FIRED = """
fired (oid, event, columns) AS (
    SELECT t.oid, e.event, CASE WHEN e.event = 'UPDATE' THEN ARRAY(
        SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = t.tgrelid AND a.attnum = ANY (t.tgattr)
    ) ELSE '{}' END
    FROM descendants JOIN pg_trigger t ON t.tgrelid = descendants.oid
    JOIN (VALUES (4, 'INSERT'), (8, 'DELETE'), (16, 'UPDATE')) e (bit, event) ON t.tgtype & e.bit > 0
    WHERE NOT t.tgisinternal AND t.tgenabled IN ('O', 'A')
          AND (descendants.oid = :oid OR t.tgtype & 1 > 0 AND (descendants.partition OR e.event <> 'INSERT')
               AND coalesce((to_jsonb(t) ->> 'tgparentid')::oid, 0) = 0)
)"""
# The functions that the server calls for each written row, as the role that writes it: those of defaults, generated
# columns, checks, indexes, partition keys, WHEN of triggers, and checks of domains. Left out: a trigger's own function,
# which needs no privilege to fire, and a type's input and output functions.
#
# `within` marks types inside other types, which are checked only where there is a value. A domain that is the column's
# own type is checked for NULL as well. A domain that a default is cast to is among the dependencies of the default.
FUNCTIONS = f"""
WITH RECURSIVE {_DESCENDANTS}, {_FIRED}, events (event) AS (
    VALUES ('INSERT'), ('UPDATE')
), columns AS (
    SELECT a.attname::text AS name, a.attnum, a.atttypid, a.atthasdef, a.attidentity, a.attgenerated <> '' AS computed
    FROM pg_attribute a WHERE a.attrelid = :oid AND a.attnum > 0 AND NOT a.attisdropped
), types (name, computed, oid, within) AS (
    SELECT name, computed, atttypid, false FROM columns
    UNION
    SELECT types.name, types.computed, part.oid, types.within OR part.within
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
    ) AS part (oid, within)
), domains (oid, base) AS (
    SELECT oid, oid FROM pg_type WHERE typtype = 'd'
    UNION
    SELECT domains.oid, t.typbasetype FROM domains JOIN pg_type t ON t.oid = domains.base AND t.typtype = 'd'
), expressions (classid, objid, event, columns, when_omitted) AS (
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
    FROM descendants CROSS JOIN events CROSS JOIN LATERAL (
        SELECT 'pg_attrdef'::regclass, ad.oid FROM pg_attrdef ad JOIN pg_attribute a
        ON a.attrelid = ad.adrelid AND a.attnum = ad.adnum AND a.attgenerated <> '' WHERE ad.adrelid = descendants.oid
        UNION ALL
        SELECT 'pg_constraint'::regclass, k.oid FROM pg_constraint k
        WHERE k.conrelid = descendants.oid AND k.contype = 'c'
              AND coalesce((to_jsonb(k) ->> 'conenforced')::boolean, true)
        UNION ALL
        SELECT 'pg_class'::regclass, i.indexrelid FROM pg_index i WHERE i.indrelid = descendants.oid
        UNION ALL
        SELECT 'pg_class'::regclass, p.partrelid FROM pg_partitioned_table p
        WHERE p.partrelid = descendants.oid AND (event = 'INSERT' OR EXISTS (
            SELECT FROM pg_inherits i
            WHERE i.inhparent = descendants.oid AND pg_get_partition_constraintdef(i.inhrelid) IS NOT NULL))
    ) AS own (classid, objid)
    WHERE descendants.partition OR event = 'UPDATE'
    UNION ALL
    SELECT 'pg_trigger'::regclass, t.oid, fired.event, fired.columns, false
    FROM fired JOIN pg_trigger t ON t.oid = fired.oid WHERE t.tgqual IS NOT NULL
), evaluated AS (
    SELECT * FROM expressions
    UNION
    SELECT 'pg_constraint'::regclass, k.oid, e.event, e.columns, e.when_omitted
    FROM evaluated e
    JOIN pg_depend d ON d.classid = e.classid AND d.objid = e.objid AND d.objsubid = 0
         AND d.refclassid = 'pg_type'::regclass
    JOIN domains ON domains.oid = d.refobjid JOIN pg_constraint k ON k.contypid = domains.base
), called (oid, event, columns, when_omitted) AS (
    SELECT DISTINCT coalesce(o.oprcode::oid, d.refobjid), e.event, e.columns, e.when_omitted
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
       called.event, called.columns, called.when_omitted,
       has_function_privilege(p.oid, 'EXECUTE') AS granted,
       has_function_privilege('public', p.oid, 'EXECUTE') AS public,
       NOT p.prosecdef AND l.lanname NOT IN ('internal', 'c') AS runs_as_role,
       l.lanname = 'sql' AND to_jsonb(p) ->> 'prosqlbody' IS NULL AND NOT EXISTS (
           SELECT FROM unnest(p.proconfig) AS setting WHERE starts_with(setting, 'search_path=')
       ) AS unpinned
FROM called
JOIN pg_proc p ON p.oid = called.oid JOIN pg_namespace n ON n.oid = p.pronamespace
JOIN pg_language l ON l.oid = p.prolang
ORDER BY 1, 2, 3
"""  # noqa: S608
TRIGGERS = f"""
WITH RECURSIVE {_DESCENDANTS}, {_FIRED}
SELECT t.tgname::text AS name, fired.event, fired.columns,
       CASE WHEN NOT p.prosecdef THEN format('%I.%I', n.nspname, p.proname) END AS function_as_role,
       CASE WHEN t.tgrelid <> :oid THEN t.tgrelid::regclass::text END AS partition,
       CASE WHEN t.tgtype & 3 = 2 AND NOT EXISTS (
           SELECT FROM unnest(p.proconfig) AS setting WHERE starts_with(setting, 'search_path=')
       ) THEN format('%I.%I()', n.nspname, p.proname) END AS unpinned,
       t.tgtype & 1 = 0 AS for_each_statement
FROM fired JOIN pg_trigger t ON t.oid = fired.oid
JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace n ON n.oid = p.pronamespace
ORDER BY t.tgrelid <> :oid, t.tgname, 5, fired.event
"""  # noqa: S608
# PostgreSQL allows a rule for a statement within WITH only if it replaces the statement, unconditionally, by a single
# one that has RETURNING.
RULES = """
SELECT r.rulename::text AS name, e.event,
       r.is_instead AND r.ev_qual::text = '<>' AND pg_get_ruledef(r.oid) ~ ' DO INSTEAD +[^( ]'
       AND pg_get_ruledef(r.oid) LIKE '% RETURNING %' AS allowed_in_with
FROM pg_rewrite r JOIN (VALUES ('2', 'UPDATE'), ('3', 'INSERT'), ('4', 'DELETE')) e (type, event)
ON r.ev_type::text = e.type
WHERE r.ev_class = :oid AND r.ev_enabled IN ('O', 'A') ORDER BY 1
"""
