-- The tables for which the noetl profile was written: the event log of noetl's own schema
-- (range-partitioned by execution_id, timestamps without a time zone), with the enums of the SQL in its
-- document. Columns that neither the profile nor the document uses are left out.
CREATE SCHEMA noetl;

CREATE TYPE noetl.event_type AS ENUM (
    'playbook.initialized', 'execution.started', 'workflow.initialized',
    'command.issued', 'command.started', 'command.completed', 'command.failed', 'step.enter', 'step.exit',
    'workflow.completed', 'workflow.failed', 'playbook.completed', 'playbook.failed', 'execution.cancelled'
);
CREATE TYPE noetl.execution_status AS ENUM (
    'initialized', 'pending', 'started', 'running', 'completed', 'failed', 'cancelled'
);

CREATE TABLE noetl.catalog (
    catalog_id bigint PRIMARY KEY,
    path       text NOT NULL
);

CREATE TABLE noetl.event (
    execution_id bigint,
    catalog_id   bigint NOT NULL REFERENCES noetl.catalog,
    event_id     bigint,
    created_at   timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP,
    event_type   noetl.event_type,
    node_id      varchar,
    node_name    varchar,
    status       noetl.execution_status,
    context      jsonb,
    result       jsonb,
    meta         jsonb,
    error        text,
    PRIMARY KEY (execution_id, event_id)
) PARTITION BY RANGE (execution_id);

-- Partitions of two quarters. The high bits of an id are the milliseconds since 2024.
CREATE TABLE noetl.event_2026_q4 PARTITION OF noetl.event
    FOR VALUES FROM (363837417062400000) TO (397177100697600000);
CREATE TABLE noetl.event_2027_q1 PARTITION OF noetl.event
    FOR VALUES FROM (397177100697600000) TO (429793201389600000);
CREATE TABLE noetl.event_default PARTITION OF noetl.event DEFAULT;

CREATE INDEX idx_event_execution_created ON noetl.event (execution_id, created_at);
CREATE INDEX idx_event_created_at ON noetl.event (created_at);
CREATE INDEX idx_event_type_created ON noetl.event (event_type, created_at);
