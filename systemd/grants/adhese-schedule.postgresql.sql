-- Source default: profile adhese-schedule, action fail, no purge on schedule.
-- To be run by the owner of the tables, or an administrator. Printed by `reaper grants`.
-- All or nothing: psql -v ON_ERROR_STOP=1 --single-transaction

-- the role: a password, or a line of pg_hba.conf that lets it in without one, is for you to add
CREATE ROLE reaper LOGIN;
-- connect
GRANT CONNECT ON DATABASE your_database TO reaper;
-- reach its tables
GRANT USAGE ON SCHEMA public TO reaper;
-- JOB_RESULTS: read, lock rows, which takes UPDATE on any one column
GRANT SELECT (end_time, job_id, scheduled_start, start_time, state), UPDATE (job_id) ON TABLE public."JOB_RESULTS" TO reaper;
-- SCHEDULED_JOBS: read, change
GRANT SELECT (id, interval_seconds, scheduled_start), UPDATE (scheduled_start) ON TABLE public."SCHEDULED_JOBS" TO reaper;
-- SCHEDULED_JOBS: tell who holds a row
GRANT SELECT (xmax) ON TABLE public."SCHEDULED_JOBS" TO reaper;

-- to name who holds the row of a locked job (--with holders)
-- GRANT pg_read_all_stats TO reaper;
