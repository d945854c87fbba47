-- Source default: profile adhese-schedule, action fail, no purge on schedule.
-- To be run by the owner of the tables, or an administrator. Printed by `reaper grants`.
-- All or nothing: psql -v ON_ERROR_STOP=1 --single-transaction

-- the role; it cannot log in until you give it a password, or a line in pg_hba.conf
CREATE ROLE reaper LOGIN;
-- connect
GRANT CONNECT ON DATABASE your_database TO reaper;
-- use the tables in this schema
GRANT USAGE ON SCHEMA public TO reaper;
-- JOB_RESULTS: read, lock rows, which needs UPDATE on any one column
GRANT SELECT (end_time, job_id, scheduled_start, start_time, state), UPDATE (job_id) ON TABLE public."JOB_RESULTS" TO reaper;
-- JOB_RESULTS: name the transaction that holds a row
GRANT SELECT (xmax) ON TABLE public."JOB_RESULTS" TO reaper;
-- SCHEDULED_JOBS: read, change
GRANT SELECT (id, interval_seconds, scheduled_start), UPDATE (scheduled_start) ON TABLE public."SCHEDULED_JOBS" TO reaper;
-- SCHEDULED_JOBS: name the transaction that holds a row
GRANT SELECT (xmax) ON TABLE public."SCHEDULED_JOBS" TO reaper;

-- to name the session that holds the row of a locked job (--with holders)
-- GRANT pg_read_all_stats TO reaper;
