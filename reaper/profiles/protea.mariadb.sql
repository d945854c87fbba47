-- The tables of protea.sql for MariaDB. Used by the tests.
-- Timestamps are DATETIME(6) in UTC: TIMESTAMP ends in 2038 or 2106, and DATETIME without (6) drops
-- fractions of a second.
CREATE TABLE job (
    id               CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY DEFAULT (uuid()),
    operation        VARCHAR(255) NOT NULL,
    queue_name       VARCHAR(255) NOT NULL,
    status           ENUM ('queued', 'running', 'succeeded', 'failed', 'cancelled') NOT NULL DEFAULT 'queued',
    payload          JSON NOT NULL DEFAULT '{}',
    meta             JSON NOT NULL DEFAULT '{}',
    created_at       DATETIME(6) NOT NULL DEFAULT (utc_timestamp(6)),
    started_at       DATETIME(6),
    finished_at      DATETIME(6),
    progress_current BIGINT,
    progress_total   BIGINT,
    parent_job_id    CHAR(36) CHARACTER SET ascii COLLATE ascii_bin,
    error_code       VARCHAR(255),
    error_message    TEXT,
    KEY ix_job_status_created_at (status, created_at),
    KEY ix_job_parent_job_id (parent_job_id),
    CONSTRAINT job_parent FOREIGN KEY (parent_job_id) REFERENCES job (id) ON DELETE SET NULL
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

CREATE TABLE job_event (
    id      BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    job_id  CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    ts      DATETIME(6) NOT NULL DEFAULT (utc_timestamp(6)),
    level   VARCHAR(20) NOT NULL DEFAULT 'info',
    event   VARCHAR(255) NOT NULL,
    message TEXT,
    fields  JSON NOT NULL DEFAULT '{}',
    KEY ix_job_event_job_id_ts (job_id, ts),
    KEY ix_job_event_event_ts (event, ts),
    CONSTRAINT job_event_job FOREIGN KEY (job_id) REFERENCES job (id) ON DELETE CASCADE
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;
