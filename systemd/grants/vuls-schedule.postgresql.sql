-- Source default: profile vuls-schedule, action fail, no purge on schedule.
-- To be run by the owner of the tables, or an administrator. Printed by `reaper grants`.
-- All or nothing: psql -v ON_ERROR_STOP=1 --single-transaction

-- the role; it cannot log in until you give it a password, or a line in pg_hba.conf
CREATE ROLE reaper LOGIN;
-- connect
GRANT CONNECT ON DATABASE your_database TO reaper;
-- use the tables in this schema
GRANT USAGE ON SCHEMA public TO reaper;
-- scheduled_tasks: read, change
GRANT SELECT (created_at, id, last_run_at, last_status, task_type), UPDATE (last_error, last_status) ON TABLE public.scheduled_tasks TO reaper;
-- scheduled_tasks: name the transaction that holds a row
GRANT SELECT (xmax) ON TABLE public.scheduled_tasks TO reaper;
-- task_runs: read
GRANT SELECT (completed_at, created_at, id, scheduled_task_id, started_at, status) ON TABLE public.task_runs TO reaper;

-- to name the session that holds the row of a locked job (--with holders)
-- GRANT pg_read_all_stats TO reaper;
