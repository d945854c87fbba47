"""The queries of MariaDB's catalogs, which show each user only what it has a privilege for."""

from __future__ import annotations

SERVER = """
SELECT version() AS version, current_user() AS role, database() AS `database`, now(6) AS now,
       CAST(now() AS DATETIME) - INTERVAL (SELECT CAST(variable_value AS SIGNED) FROM information_schema.global_status
           WHERE variable_name = 'UPTIME') SECOND AS started,
       @@read_only AS read_only, @@innodb_read_only AS forced_read_only
"""
LIMIT = "SET SESSION max_statement_time = :limit"
TABLE = """
SELECT table_schema AS `schema`, table_name AS name, table_type AS type, engine, coalesce(table_rows, 0) AS `rows`,
       create_options LIKE '%partitioned%' AS partitioned,
       (SELECT max(concat_ws(', ', p.partition_expression, p.subpartition_expression))
        FROM information_schema.partitions p
        WHERE p.table_schema = t.table_schema AND p.table_name = t.table_name) AS partitioned_by,
       EXISTS (SELECT 1 FROM information_schema.views v WHERE v.table_schema = t.table_schema
               AND v.table_name = t.table_name AND v.is_updatable = 'YES') AS updatable
FROM information_schema.tables t WHERE table_schema = coalesce(:schema, database()) AND table_name = :name
"""
ELSEWHERE = """
SELECT table_schema AS `schema`, table_name AS name FROM information_schema.tables
WHERE table_name = :name AND table_schema <> coalesce(:schema, database())
      AND table_schema NOT IN ('information_schema', 'mysql', 'performance_schema', 'sys') ORDER BY 1, 2
"""
NAMES = """
SELECT table_name FROM information_schema.tables
WHERE table_schema = coalesce(:schema, database()) AND table_type LIKE '%BASE TABLE%'
"""
EVERY_TABLE = """
SELECT c.table_schema AS `schema`, c.table_name AS name, c.column_name AS `column`
FROM information_schema.columns c JOIN information_schema.tables t USING (table_schema, table_name)
WHERE c.table_schema = database() AND t.table_type IN ('BASE TABLE', 'VIEW') ORDER BY 1, 2, c.ordinal_position
"""
REFERRING = """
SELECT DISTINCT table_schema AS `schema`, table_name AS name FROM information_schema.key_column_usage
WHERE referenced_table_schema = :schema AND referenced_table_name = :name
      AND (table_schema, table_name) <> (referenced_table_schema, referenced_table_name) ORDER BY 1, 2
"""
COLUMNS = """
SELECT column_name AS name, column_type AS type, data_type AS base, is_nullable = 'YES' AS nullable,
       column_default AS value, extra, privileges, character_set_name AS charset, collation_name AS collation,
       character_maximum_length AS length, datetime_precision AS digits, column_comment AS comment,
       generation_expression AS computed
FROM information_schema.columns WHERE table_schema = :schema AND table_name = :name ORDER BY ordinal_position
"""
# A sequence is a table with this column. Reading its privileges takes no value, and works in a read-only transaction.
SEQUENCE = """
SELECT privileges FROM information_schema.columns
WHERE table_schema = :schema AND table_name = :name AND column_name = 'next_not_cached_value'
"""
INDEXES = """
SELECT index_name AS name, column_name AS `column`, index_type = 'BTREE' AS ordered, non_unique = 0 AS `unique`,
       ignored = 'NO' AS valid, sub_part
FROM information_schema.statistics WHERE table_schema = :schema AND table_name = :name
ORDER BY index_name, seq_in_index
"""
# Every trigger runs with the privileges of the user who defined it.
TRIGGERS = """
SELECT trigger_name AS name, event_manipulation AS event FROM information_schema.triggers
WHERE event_object_schema = :schema AND event_object_table = :name ORDER BY 1
"""
INVOKER = """
SELECT security_type = 'INVOKER' FROM information_schema.views WHERE table_schema = :schema AND table_name = :name
"""
VIEW = "SELECT view_definition FROM information_schema.views WHERE table_schema = :schema AND table_name = :name"
SESSIONS = "SELECT count(*) FROM information_schema.innodb_trx"
