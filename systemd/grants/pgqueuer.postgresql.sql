-- Source default: profile pgqueuer, action fail, no purge on schedule.
-- To be run by the owner of the tables, or an administrator. Printed by `reaper grants`.
-- All or nothing: psql -v ON_ERROR_STOP=1 --single-transaction
-- NOTE pgqueuer: the trigger tg_pgqueuer_changed calls public.fn_pgqueuer_changed with the role's own privileges (no SECURITY DEFINER): grant the role what that reads or writes

-- the role; it cannot log in until you give it a password, or a line in pg_hba.conf
CREATE ROLE reaper LOGIN;
-- connect
GRANT CONNECT ON DATABASE your_database TO reaper;
-- use the tables in this schema
GRANT USAGE ON SCHEMA public TO reaper;
-- pgqueuer: read, change
GRANT SELECT (attempts, entrypoint, heartbeat, id, priority, queue_manager_id, status, updated), UPDATE (queue_manager_id, status, updated) ON TABLE public.pgqueuer TO reaper;
-- pgqueuer: name the transaction that holds a row
GRANT SELECT (xmax) ON TABLE public.pgqueuer TO reaper;
-- pgqueuer_log: read, insert
GRANT SELECT (entrypoint, job_id, priority, status, traceback), INSERT (entrypoint, job_id, priority, status, traceback) ON TABLE public.pgqueuer_log TO reaper;

-- for the other actions of `reaper fail --action`: requeue (--with actions)
-- GRANT UPDATE (attempts, execute_after) ON TABLE public.pgqueuer TO reaper;

-- to name the session that holds the row of a locked job (--with holders)
-- GRANT pg_read_all_stats TO reaper;
