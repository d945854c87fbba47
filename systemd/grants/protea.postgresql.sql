-- Source default: profile protea, action fail, no purge on schedule.
-- To be run by the owner of the tables, or an administrator. Printed by `reaper grants`.
-- All or nothing: psql -v ON_ERROR_STOP=1 --single-transaction

-- the role; it cannot log in until you give it a password, or a line in pg_hba.conf
CREATE ROLE reaper LOGIN;
-- connect
GRANT CONNECT ON DATABASE your_database TO reaper;
-- use the tables in this schema
GRANT USAGE ON SCHEMA public TO reaper;
-- job: read, change
GRANT SELECT (created_at, finished_at, id, operation, parent_job_id, started_at, status), UPDATE (error_code, error_message, finished_at, status) ON TABLE public.job TO reaper;
-- job: name the transaction that holds a row
GRANT SELECT (xmax) ON TABLE public.job TO reaper;
-- job_event: read, insert
GRANT SELECT (event, fields, job_id, level, ts), INSERT (event, fields, job_id, level, message, ts) ON TABLE public.job_event TO reaper;

-- for `reaper purge` (--with purge)
-- GRANT DELETE ON TABLE public.job TO reaper;

-- for `reaper fence install`, unless the owner of the table runs it (--with fence)
-- GRANT CREATE ON SCHEMA public TO reaper;
-- GRANT TRIGGER ON TABLE public.job TO reaper;

-- to name the session that holds the row of a locked job (--with holders)
-- GRANT pg_read_all_stats TO reaper;
