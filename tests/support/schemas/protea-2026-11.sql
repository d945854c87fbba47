-- The two tables of PROTEA as its migrations make them in November 2026, in our own words: the enum has the names of
-- the Python members as labels, and its code fills every column, so that none but the event's number has a default.
CREATE TYPE job_status AS ENUM ('QUEUED', 'RUNNING', 'SUCCEEDED', 'FAILED', 'CANCELLED');

CREATE TABLE job (
    id               uuid PRIMARY KEY,
    operation        text NOT NULL,
    queue_name       text NOT NULL,
    status           job_status NOT NULL,
    payload          jsonb NOT NULL,
    meta             jsonb NOT NULL,
    created_at       timestamptz NOT NULL,
    started_at       timestamptz,
    finished_at      timestamptz,
    progress_current bigint,
    progress_total   bigint,
    error_code       text,
    error_message    text,
    parent_job_id    uuid REFERENCES job ON DELETE SET NULL
);
CREATE INDEX ON job (created_at);
CREATE INDEX ON job (operation, created_at);
CREATE INDEX ON job (status, created_at);
CREATE INDEX ON job (parent_job_id);

CREATE TABLE job_event (
    id      bigserial PRIMARY KEY,
    job_id  uuid NOT NULL REFERENCES job ON DELETE CASCADE,
    ts      timestamptz NOT NULL,
    level   text NOT NULL,
    event   text NOT NULL,
    message text,
    fields  jsonb NOT NULL
);
CREATE INDEX ON job_event (event, ts);
CREATE INDEX ON job_event (job_id, ts);
