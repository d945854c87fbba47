-- Source default: profile vuls, action fail, no purge on schedule.
-- To be run by the owner of the tables, or an administrator. Printed by `reaper grants`.

-- the user; it cannot log in until you run ALTER USER `reaper`@`%` IDENTIFIED BY '...' ACCOUNT UNLOCK
CREATE USER IF NOT EXISTS `reaper`@`%` ACCOUNT LOCK;
-- scheduled_tasks: read, show `reaper check` its columns and keys
GRANT SELECT (`id`, `name`), REFERENCES ON `your_database`.`scheduled_tasks` TO `reaper`@`%`;
-- task_runs: read, change, show `reaper check` its columns and keys
GRANT SELECT (`celery_task_id`, `completed_at`, `created_at`, `id`, `scheduled_task_id`, `started_at`, `status`), UPDATE (`completed_at`, `duration_seconds`, `error_message`, `status`), REFERENCES ON `your_database`.`task_runs` TO `reaper`@`%`;

-- for `reaper purge` (--with purge)
-- GRANT DELETE ON `your_database`.`task_runs` TO `reaper`@`%`;
-- GRANT SELECT (`last_status`) ON `your_database`.`scheduled_tasks` TO `reaper`@`%`;

-- to name the session that holds the row of a locked job (--with holders)
-- GRANT PROCESS ON *.* TO `reaper`@`%`;
