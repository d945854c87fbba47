-- Source default: profile chancy, action fail, no purge on schedule.
-- To be run by the owner of the tables, or an administrator. Printed by `reaper grants`.
-- All or nothing: psql -v ON_ERROR_STOP=1 --single-transaction

-- the role; it cannot log in until you give it a password, or a line in pg_hba.conf
CREATE ROLE reaper LOGIN;
-- connect
GRANT CONNECT ON DATABASE your_database TO reaper;
-- use the tables in this schema
GRANT USAGE ON SCHEMA public TO reaper;
-- chancy_jobs: read, change
GRANT SELECT (attempts, claim_id, completed_at, created_at, errors, func, id, max_attempts, started_at, state, taken_by), UPDATE (attempts, claim_id, completed_at, errors, state) ON TABLE public.chancy_jobs TO reaper;
-- chancy_jobs: name the transaction that holds a row
GRANT SELECT (xmax) ON TABLE public.chancy_jobs TO reaper;
-- chancy_workers: read
GRANT SELECT (last_seen, worker_id) ON TABLE public.chancy_workers TO reaper;

-- for the other actions of `reaper fail --action`: requeue (--with actions)
-- GRANT UPDATE (scheduled_at, started_at, taken_by) ON TABLE public.chancy_jobs TO reaper;

-- for `reaper purge` (--with purge)
-- GRANT DELETE ON TABLE public.chancy_jobs TO reaper;

-- to name the session that holds the row of a locked job (--with holders)
-- GRANT pg_read_all_stats TO reaper;
