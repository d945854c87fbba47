-- The tables of vuls.sql for MariaDB.
CREATE TABLE scheduled_tasks (
    id          integer NOT NULL AUTO_INCREMENT PRIMARY KEY,
    name        varchar(255) NOT NULL UNIQUE,
    task_type   varchar(255) NOT NULL,
    last_status varchar(50),
    last_run_at datetime(6),
    last_error  text,
    created_at  datetime(6) DEFAULT current_timestamp(6),
    KEY ix_scheduled_tasks_last_status (last_status)
) ENGINE = InnoDB;

CREATE TABLE task_runs (
    id                integer NOT NULL AUTO_INCREMENT PRIMARY KEY,
    scheduled_task_id integer NOT NULL,
    celery_task_id    varchar(255) UNIQUE,
    status            varchar(50) DEFAULT 'pending',
    started_at        datetime(6),
    completed_at      datetime(6),
    duration_seconds  integer,
    error_message     text,
    created_at        datetime(6) DEFAULT current_timestamp(6),
    KEY ix_task_runs_status (status),
    KEY ix_task_runs_scheduled_task_id (scheduled_task_id),
    FOREIGN KEY (scheduled_task_id) REFERENCES scheduled_tasks (id)
) ENGINE = InnoDB;
