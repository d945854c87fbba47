-- Source default: profile protea, action fail, no purge on schedule.
-- To be run by the owner of the tables, or an administrator. Printed by `reaper grants`.

-- the user; it cannot log in until you run ALTER USER `reaper`@`%` IDENTIFIED BY '...' ACCOUNT UNLOCK
CREATE USER IF NOT EXISTS `reaper`@`%` ACCOUNT LOCK;
-- job: read, change, show `reaper check` its columns and keys
GRANT SELECT (`created_at`, `finished_at`, `id`, `operation`, `parent_job_id`, `started_at`, `status`), UPDATE (`error_code`, `error_message`, `finished_at`, `status`), REFERENCES ON `your_database`.`job` TO `reaper`@`%`;
-- job_event: read, insert, show `reaper check` its columns and keys
GRANT SELECT (`event`, `fields`, `job_id`, `level`, `ts`), INSERT (`event`, `fields`, `job_id`, `level`, `message`, `ts`), REFERENCES ON `your_database`.`job_event` TO `reaper`@`%`;

-- for `reaper purge` (--with purge)
-- GRANT DELETE ON `your_database`.`job` TO `reaper`@`%`;

-- for `reaper fence install`, unless the owner of the table runs it (--with fence)
-- GRANT SELECT (`created_at`, `error_code`, `error_message`, `finished_at`, `started_at`, `status`), UPDATE (`error_code`, `error_message`, `finished_at`, `status`), TRIGGER ON `your_database`.`job` TO `reaper`@`%`;

-- to name the session that holds the row of a locked job (--with holders)
-- GRANT PROCESS ON *.* TO `reaper`@`%`;
