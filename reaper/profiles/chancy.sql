-- The tables for which the profile chancy was written, as the migrations of chancy 0.26 create them. Tables and columns
-- that the profile does not use are left out.
CREATE TABLE chancy_jobs (
    id           uuid PRIMARY KEY,
    queue        text NOT NULL,
    func         text NOT NULL,
    kwargs       jsonb NOT NULL DEFAULT '{}',
    state        varchar(25) NOT NULL DEFAULT 'pending',
    priority     integer DEFAULT 0,
    attempts     integer DEFAULT 0,
    max_attempts integer NOT NULL DEFAULT 1,
    taken_by     text,
    created_at   timestamptz NOT NULL DEFAULT now(),
    started_at   timestamptz,
    completed_at timestamptz,
    scheduled_at timestamptz NOT NULL DEFAULT now(),
    unique_key   text,
    errors       jsonb NOT NULL DEFAULT '[]',
    claim_id     uuid
);

CREATE UNIQUE INDEX chancy_jobs_unique_key ON chancy_jobs (unique_key)
    WHERE unique_key IS NOT NULL AND state NOT IN ('succeeded', 'failed');
CREATE INDEX chancy_idx_jobs_queue_state ON chancy_jobs (queue, state);
CREATE INDEX chancy_idx_jobs_fetch_prune
    ON chancy_jobs (queue, state, attempts, scheduled_at, priority DESC, id DESC)
    WHERE state IN ('pending', 'retrying');

CREATE UNLOGGED TABLE chancy_workers (
    worker_id  text NOT NULL PRIMARY KEY,
    tags       text[],
    queues     text[],
    last_seen  timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);
