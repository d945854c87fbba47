"""A Celery application that uses Celery beat, written as the README describes it."""

from __future__ import annotations

import os

from celery import Celery

from reaper import celery_tasks

app = Celery("beat", broker=os.environ["BEAT_BROKER"], backend=os.environ["BEAT_BROKER"])
app.conf.update(
    imports=["reaper.celery_tasks"],
    beat_schedule={
        "clear-stuck-jobs": {
            "task": "reaper.celery_tasks.clear_stuck_scheduler_jobs",
            "schedule": 1.0,
            "kwargs": {"max_age_hours": 2, "dry_run": False},
        },
    },
    beat_schedule_filename=os.environ.get("BEAT_FILE", "beat"),
)
# Under a name of the user's own too.
app.task(name="app.tasks.cleanup_tasks.get_stuck_jobs_report")(celery_tasks.get_stuck_jobs_report.run)
