-- Source default: profile vuls-schedule, action fail, no purge on schedule.
-- To be run by the owner of the tables, or an administrator. Printed by `reaper grants`.

-- the user; it cannot log in until you run ALTER USER `reaper`@`%` IDENTIFIED BY '...' ACCOUNT UNLOCK
CREATE USER IF NOT EXISTS `reaper`@`%` ACCOUNT LOCK;
-- scheduled_tasks: read, change, show `reaper check` its columns and keys
GRANT SELECT (`created_at`, `id`, `last_run_at`, `last_status`, `task_type`), UPDATE (`last_error`, `last_status`), REFERENCES ON `your_database`.`scheduled_tasks` TO `reaper`@`%`;
-- task_runs: read, show `reaper check` its columns and keys
GRANT SELECT (`completed_at`, `created_at`, `id`, `scheduled_task_id`, `started_at`, `status`), REFERENCES ON `your_database`.`task_runs` TO `reaper`@`%`;

-- to name the session that holds the row of a locked job (--with holders)
-- GRANT PROCESS ON *.* TO `reaper`@`%`;
