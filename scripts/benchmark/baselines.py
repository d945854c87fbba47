"""Hand-written SQL to compare the reaper with, for the thresholds of `benchmark.sweeper`."""

from __future__ import annotations

SURVEY = """
SELECT id FROM job
WHERE status = 'running'
  AND coalesce(started_at, created_at) < now() - interval '6 h'
  AND coalesce(started_at, created_at) < now() - interval '1 h'
  AND NOT EXISTS (SELECT FROM job_event e WHERE e.job_id = job.id AND e.ts >= now() - interval '1 h')
  AND NOT EXISTS (
    SELECT FROM job c WHERE c.parent_job_id = job.id AND c.parent_job_id IS NOT NULL AND c.id <> job.id AND (
      c.status = 'running' OR greatest(c.created_at, c.started_at, c.finished_at) >= now() - interval '1 h'))
"""
"""The ids of the stale jobs."""

REAP = """
WITH doomed AS MATERIALIZED (
  SELECT id, coalesce(started_at, created_at) AS started,
    CASE WHEN started_at IS NOT NULL THEN 'started_at' ELSE 'created_at' END AS started_from,
    (SELECT max(e.ts) FROM job_event e WHERE e.job_id = job.id) AS event,
    (SELECT max(CASE WHEN c.status = 'running' THEN now()
                     ELSE greatest(c.created_at, c.started_at, c.finished_at) END)
     FROM job c WHERE c.parent_job_id = job.id AND c.id <> job.id) AS child
  FROM job
  WHERE status = 'running'
    AND coalesce(started_at, created_at) < now() - interval '6 h'
    AND coalesce(started_at, created_at) < now() - interval '1 h'
    AND NOT EXISTS (SELECT FROM job_event e WHERE e.job_id = job.id AND e.ts >= now() - interval '1 h')
    AND NOT EXISTS (
      SELECT FROM job c WHERE c.parent_job_id = job.id AND c.parent_job_id IS NOT NULL AND c.id <> job.id AND (
        c.status = 'running' OR greatest(c.created_at, c.started_at, c.finished_at) >= now() - interval '1 h'))
), measured AS MATERIALIZED (
  SELECT *, greatest(started, event, child) AS last_sign,
    CASE greatest(started, event, child) WHEN event THEN 'job_event' WHEN child THEN 'child job' ELSE 'start' END
      AS witness,
    round(extract(epoch FROM now() - started), 3) AS age,
    round(extract(epoch FROM now() - greatest(started, event, child)), 3) AS silence
  FROM doomed
), ended AS (
  UPDATE job SET status = 'failed', finished_at = now(), error_code = 'JobTimeout',
    error_message = concat(
      'No sign of life for ', to_char(make_interval(secs => silence::float), 'FMHH24"h "FMMI"m"'),
      ' (stall window 1h) after running for ', to_char(make_interval(secs => age::float), 'FMHH24"h "FMMI"m"'),
      ' (timeout 6h); last sign of life at ', to_char(last_sign AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
      ' from ', witness, '.')
  FROM measured WHERE measured.id = job.id AND job.status = 'running'
  RETURNING measured.*, error_message
)
INSERT INTO job_event (job_id, ts, level, event, message, fields)
SELECT id, now(), 'error', 'job.timeout', error_message, jsonb_build_object(
  'started', started, 'started_from', started_from, 'last_sign', last_sign, 'witness', witness,
  'timeout_seconds', 21600, 'timeout_from', 'default', 'stall_seconds', 3600, 'stall_from', 'default',
  'judged_at', now(), 'age_seconds', age, 'silence_seconds', silence,
  'audible_since', now() - interval '1 h', 'deaf_until', null,
  'signs', jsonb_build_object('job_event', event, 'child job', child),
  'reason', 'JobTimeout', 'source', 'main', 'sweep_id', '0123456789ab', 'host', 'bench')
FROM ended
"""
"""All that a sweep does to stale jobs, in one transaction: the same rule, columns, message and evidence."""

NAIVE = """
WITH ended AS (
  UPDATE job SET status = 'failed', finished_at = now(), error_code = 'JobTimeout', error_message = 'Timed out.'
  WHERE status = 'running'
    AND coalesce(started_at, created_at) < now() - interval '6 h'
    AND NOT EXISTS (SELECT FROM job_event e WHERE e.job_id = job.id AND e.ts >= now() - interval '1 h')
    AND NOT EXISTS (
      SELECT FROM job c WHERE c.parent_job_id = job.id AND c.parent_job_id IS NOT NULL
        AND greatest(c.created_at, c.started_at, c.finished_at) >= now() - interval '1 h')
  RETURNING id
)
INSERT INTO job_event (job_id, level, event, message)
SELECT id, 'error', 'job.timeout', 'Timed out.' FROM ended
"""
"""The least that ends the same jobs: without evidence or explanation."""
