"""The transition of a stale job, with its audit event: the statements and their parameters."""
