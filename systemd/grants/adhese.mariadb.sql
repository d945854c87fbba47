-- Source default: profile adhese, action fail, no purge on schedule.
-- To be run by the owner of the tables, or an administrator. Printed by `reaper grants`.

-- the user; it cannot log in until you run ALTER USER `reaper`@`%` IDENTIFIED BY '...' ACCOUNT UNLOCK
CREATE USER IF NOT EXISTS `reaper`@`%` ACCOUNT LOCK;
-- JOB_RESULTS: read, change, show `reaper check` its columns and keys
GRANT SELECT (`id`, `job_id`, `scheduled_start`, `start_time`, `state`), UPDATE (`end_time`, `state`), REFERENCES ON `your_database`.`JOB_RESULTS` TO `reaper`@`%`;
-- PARTIAL_JOB_RESULTS: read, change, show `reaper check` its columns and keys
GRANT SELECT (`end_time`, `job_result_id`, `start_time`, `state`), UPDATE (`duration`, `result_code`, `state`), REFERENCES ON `your_database`.`PARTIAL_JOB_RESULTS` TO `reaper`@`%`;
-- SCHEDULED_JOBS: read, change, show `reaper check` its columns and keys
GRANT SELECT (`id`, `interval_seconds`, `scheduled_start`), UPDATE (`scheduled_start`), REFERENCES ON `your_database`.`SCHEDULED_JOBS` TO `reaper`@`%`;

-- for the other actions of `reaper fail --action`: complete, delete (--with actions)
-- GRANT SELECT (`end_time`), DELETE ON `your_database`.`JOB_RESULTS` TO `reaper`@`%`;
-- GRANT SELECT (`duration`, `id`, `result_code`), DELETE ON `your_database`.`PARTIAL_JOB_RESULTS` TO `reaper`@`%`;

-- to name the session that holds the row of a locked job (--with holders)
-- GRANT PROCESS ON *.* TO `reaper`@`%`;
