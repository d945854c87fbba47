-- Source default: profile adhese-schedule, action fail, no purge on schedule.
-- To be run by the owner of the tables, or an administrator. Printed by `reaper grants`.

-- the user; it cannot log in until you run ALTER USER `reaper`@`%` IDENTIFIED BY '...' ACCOUNT UNLOCK
CREATE USER IF NOT EXISTS `reaper`@`%` ACCOUNT LOCK;
-- JOB_RESULTS: read, show `reaper check` its columns and keys
GRANT SELECT (`end_time`, `job_id`, `scheduled_start`, `start_time`, `state`), REFERENCES ON `your_database`.`JOB_RESULTS` TO `reaper`@`%`;
-- SCHEDULED_JOBS: read, change, show `reaper check` its columns and keys
GRANT SELECT (`id`, `interval_seconds`, `scheduled_start`), UPDATE (`scheduled_start`), REFERENCES ON `your_database`.`SCHEDULED_JOBS` TO `reaper`@`%`;

-- to name the session that holds the row of a locked job (--with holders)
-- GRANT PROCESS ON *.* TO `reaper`@`%`;
