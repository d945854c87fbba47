-- The tables of adhese.sql for MariaDB. Its header says what comes from the document.
CREATE TABLE `SCHEDULED_JOBS` (
    id               bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
    scheduled_start  datetime(6) NOT NULL,
    interval_seconds integer NOT NULL CHECK (interval_seconds > 0)
) ENGINE = InnoDB;

CREATE TABLE `JOB_RESULTS` (
    id              bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
    job_id          bigint NOT NULL,
    scheduled_start datetime(6) NOT NULL,
    state           varchar(20) NOT NULL DEFAULT 'running',
    start_time      datetime(6),
    end_time        datetime(6),
    UNIQUE KEY job_results_job_id_scheduled_start (job_id, scheduled_start),
    KEY job_results_state (state),
    FOREIGN KEY (job_id) REFERENCES `SCHEDULED_JOBS` (id)
) ENGINE = InnoDB;

CREATE TABLE `PARTIAL_JOB_RESULTS` (
    id            bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
    job_result_id bigint NOT NULL,
    state         varchar(20) NOT NULL DEFAULT 'running',
    duration      bigint,
    result_code   varchar(20),
    start_time    datetime(6),
    end_time      datetime(6),
    KEY partial_job_results_job_result_id (job_result_id),
    FOREIGN KEY (job_result_id) REFERENCES `JOB_RESULTS` (id)
) ENGINE = InnoDB;
