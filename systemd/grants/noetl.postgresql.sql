-- Source default: profile noetl, action fail, no purge on schedule.
-- To be run by the owner of the tables, or an administrator. Printed by `reaper grants`.
-- All or nothing: psql -v ON_ERROR_STOP=1 --single-transaction

-- the role; it cannot log in until you give it a password, or a line in pg_hba.conf
CREATE ROLE reaper LOGIN;
-- connect
GRANT CONNECT ON DATABASE your_database TO reaper;
-- use the tables in this schema
GRANT USAGE ON SCHEMA noetl TO reaper;
-- noetl.event: read, insert
GRANT SELECT (catalog_id, context, created_at, event_id, event_type, execution_id, node_name, status), INSERT (catalog_id, context, created_at, event_id, event_type, execution_id, node_name, status) ON TABLE noetl.event TO reaper;
-- noetl.event: lock the table while a job is ended; before PostgreSQL 17 use: GRANT UPDATE ON TABLE noetl.event TO reaper;
GRANT MAINTAIN ON TABLE noetl.event TO reaper;

-- to name the session that holds the row of a locked job (--with holders)
-- GRANT pg_read_all_stats TO reaper;
