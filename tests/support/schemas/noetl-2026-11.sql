-- The tables of NoETL that the reaper meets, as its schema makes them in November 2026, in our own words: types and
-- states are plain text, the log has more required columns, all with defaults, and beside it stand the outbox of its
-- publisher and the projection that its lists of executions begin with.
CREATE SCHEMA noetl;

CREATE TABLE noetl.catalog (
    catalog_id bigint PRIMARY KEY,
    path       text NOT NULL
);

CREATE TABLE noetl.event (
    execution_id        bigint,
    catalog_id          bigint NOT NULL REFERENCES noetl.catalog,
    event_id            bigint,
    parent_execution_id bigint,
    created_at          timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP,
    event_type          varchar,
    node_id             varchar,
    node_name           varchar,
    status              varchar,
    context             jsonb,
    result              jsonb,
    meta                jsonb,
    error               text,
    tenant_id           text NOT NULL DEFAULT 'default',
    organization_id     text NOT NULL DEFAULT 'default',
    schema_version      integer NOT NULL DEFAULT 1,
    event_time          timestamptz NOT NULL DEFAULT now(),
    ingest_time         timestamptz NOT NULL DEFAULT now(),
    CHECK (result IS NULL OR (jsonb_typeof(result) = 'object' AND result ? 'status')),
    PRIMARY KEY (execution_id, event_id)
) PARTITION BY RANGE (execution_id);
CREATE TABLE noetl.event_2026_q4 PARTITION OF noetl.event
    FOR VALUES FROM (363837417062400000) TO (397177100697600000);
CREATE TABLE noetl.event_default PARTITION OF noetl.event DEFAULT;
CREATE INDEX ON noetl.event (created_at);
CREATE INDEX ON noetl.event (event_type);
CREATE INDEX ON noetl.event (status);
CREATE INDEX ON noetl.event (execution_id, event_type, event_id DESC);

CREATE TABLE noetl.outbox (
    outbox_id     bigserial PRIMARY KEY,
    execution_id  bigint,
    event_id      bigint NOT NULL,
    subject       text,
    payload       jsonb NOT NULL,
    payload_bytes bytea,
    payload_codec text NOT NULL DEFAULT 'arrow-feather',
    status        text NOT NULL DEFAULT 'PENDING' CHECK (status IN ('PENDING', 'IN_FLIGHT', 'PUBLISHED', 'FAILED')),
    attempts      integer NOT NULL DEFAULT 0,
    available_at  timestamptz NOT NULL DEFAULT now(),
    created_at    timestamptz NOT NULL DEFAULT now(),
    UNIQUE (execution_id, event_id)
);

CREATE TABLE noetl.execution (
    execution_id    bigint PRIMARY KEY,
    catalog_id      bigint NOT NULL REFERENCES noetl.catalog,
    status          varchar NOT NULL,
    last_event_type varchar,
    last_event_id   bigint,
    start_time      timestamptz,
    end_time        timestamptz
);
