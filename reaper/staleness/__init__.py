"""The decision whether a job is stale: the rule, the downtime of the database, the liveness of Celery tasks."""
