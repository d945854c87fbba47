"""Celery tasks for those who keep Celery beat: the reaper's commands under the names that its users know.

Limitation: a reaper inside Celery lives in the queue that it repairs. When workers hang, the queue is full or beat is
down, these tasks wait with all the others: let `reaper run`, which stands outside, do the work, and use these beside
it. A task that runs in a `solo` worker keeps that worker from answering the question who executes what; the jobs that
this worker could have are then unknown, and spared. A worker of its own for them, on a queue of its own, is best.

Each task reads the reaper's own settings when it runs: REAPER_* variables of the worker's process, and the file that
REAPER_CONFIG names. Each source is alone in its trouble, told in `errors`; a task fails only when every source does.

    app.conf.imports = ["reaper.celery_tasks"]
    app.conf.beat_schedule = {
        "clear-stuck-jobs": {
            "task": "reaper.celery_tasks.clear_stuck_scheduler_jobs",
            "schedule": 7200.0,
            "kwargs": {"max_age_hours": 2, "dry_run": False},
        },
    }

Where beat or other programs already send tasks of other names, register them under those too:

    app.task(name="app.tasks.cleanup_tasks.clear_stuck_scheduler_jobs")(clear_stuck_scheduler_jobs.run)
"""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from celery import current_task, shared_task

from reaper.common.json_values import to_jsonable
from reaper.config import Settings, SourceSettings, load
from reaper.errors import ConfigError, NotPurgeable, ReaperError
from reaper.model import Threshold, Verdict
from reaper.observers.command_log import CommandLog
from reaper.operations.bulk_end import BulkOptions
from reaper.operations.fail import ManualEnd
from reaper.operations.orphan_search import report_with_orphans
from reaper.operations.purge import PurgeOptions as PurgeOrders
from reaper.operations.purge import purge, require_purgeable
from reaper.operations.report import ReportQuery, totals_of
from reaper.operations.reset import preview, reset
from reaper.operations.sources import SourceResult, create_one_off_source, for_each_source, new_downtime_tracker
from reaper.source import Source
from reaper.source.factory import with_max_age
from reaper.sweep.breaker import Breaker
from reaper.sweep.options import SweepOptions
from reaper.sweep.source_state import SourceState
from reaper.sweep.sweep import sweep

Document = dict[str, Any]
"""What a task returns: JSON."""

_SHOWN = 100
_LONGEST_HOURS = 87600


@shared_task
def clear_stuck_scheduler_jobs(max_age_hours: float = 2, dry_run: bool = False) -> Document:
    """End the jobs of every source that run for longer than `max_age_hours` and are silent: `reaper clear --force`.

    The breaker holds a sweep here too; its outcome is then `held`. `summary` tells `total_stuck_jobs` and how many were
    `cleared`, `sources` the report of each sweep. Raises ReaperError when no source could be swept.
    """
    settings = _settings()
    options = SweepOptions(
        host=socket.gethostname(),
        batch_size=settings.batch_size,
        breaker=Breaker(settings.breaker_min, settings.breaker_share),
        dry_run=bool(dry_run),
    )
    sources = _sources(settings, _aged(settings, max_age_hours))
    with CommandLog(settings) as command_log:
        reports = [
            sweep(source, new_downtime_tracker(settings), SourceState(), options, None, command_log)
            for source in sources
        ]
    summary = {
        "total_stuck_jobs": sum(report.census.stale for report in reports if report.census),
        "cleared": sum(report.reaped for report in reports),
        "spared": sum(report.census.spared for report in reports if report.census),
        "dry_run": bool(dry_run),
        "max_age_hours": max_age_hours,
    }
    return _told(summary, {report.source: report for report in reports}, {r.source: r.error for r in reports})


@shared_task
def get_stuck_jobs_report(max_age_hours: float = 2) -> Document:
    """What is stuck, and what Celery executes for no job: `reaper report`. Changes nothing.

    `summary` tells `total_stuck_jobs`, and of which sources not all is known; `sources` has up to 100 stuck jobs of
    each, oldest first, with all that is known of them. Raises ReaperError when no source could be asked.
    """
    settings = _settings()
    wanted = ReportQuery(Verdict.STALE, None, _SHOWN)
    answers = for_each_source(
        _sources(settings, _aged(settings, max_age_hours)), lambda each: report_with_orphans(settings, each, wanted)
    )
    found = {answer.source: answer.value for answer in answers if answer.value}
    members = {
        name: {"census": report.census, "stuck_jobs": report.jobs, "more": report.more, "orphans": report.orphans or ()}
        for name, report in found.items()
    }
    summary = {
        **to_jsonable(totals_of({answer.source: answer.value for answer in answers})),
        "max_age_hours": max_age_hours,
    }
    return _told(summary, members, _errors(answers))


@shared_task
def cleanup_old_task_runs_enhanced(days_to_keep: int = 30, batch_size: int = 1000) -> Document:
    """Delete what finished more than `days_to_keep` ago, `batch_size` jobs a transaction: `reaper purge`.

    Never a job that runs, or that a running one needs. Sources whose profile does not say what finished means are left
    out. `summary` tells `total_deleted`. Raises ReaperError when there are no others, or none could be purged.
    """
    settings = _settings()
    options = PurgeOrders(
        days_to_keep=_number("days_to_keep", days_to_keep, 1, 3650, whole=True),
        batch_size=int(_number("batch_size", batch_size, 1, 100_000, whole=True)),
    )
    sources = _sources(settings, [found for found in settings.sources.values() if _purgeable(found)])
    if not sources:
        raise ReaperError("no source has a profile that says which jobs are finished")
    reports = [purge(source, options, _Nobody()) for source in sources]
    summary = {
        "total_deleted": sum(report.purged for report in reports),
        "refused": sum(sum(report.refusals.values()) for report in reports),
        "days_to_keep": days_to_keep,
        "batch_size": batch_size,
    }
    return _told(summary, {report.source: report for report in reports}, {r.source: r.error for r in reports})


@shared_task
def reset_scheduler_state(force: bool = False) -> Document:
    """Emergency: end every running job of every source, the living too: `reaper reset`.

    Without `force` it only tells what it would end. `summary` tells how many were `running` and `ended`. The audit
    events name this task. Raises ReaperError when no source could be asked.
    """
    settings = _settings()
    decision = ManualEnd(operator=_operator(), host=socket.gethostname(), reason="emergency reset")

    def end(source: Source) -> Document:
        found = preview(source, new_downtime_tracker(settings))
        toll = reset(source, new_downtime_tracker(settings), decision, hand) if force is True else None
        return {"running": found.running, "kinds": found.kinds, "first": found.first, "toll": toll}

    with CommandLog(settings) as command_log:
        hand = BulkOptions(decision.host, settings.batch_size, command_log)
        answers = for_each_source(_sources(settings, settings.sources.values()), end)
    members = {answer.source: answer.value for answer in answers if answer.value}
    tolls = [member["toll"] for member in members.values() if member["toll"]]
    summary = {
        "total_running": sum(member["running"] for member in members.values()),
        "ended": sum(toll.reaped for toll in tolls),
        "force": force is True,
    }
    return _told(summary, members, _errors(answers))


class _Nobody:
    """Listens to what is told while a purge works: the report has it all."""

    def purging(self, source: str, found: int | None) -> None: ...

    def purged(self, source: str, rows: int) -> None: ...


@contextmanager
def _in_one_line() -> Iterator[None]:
    """Whoever waits for the result gets an error made anew of its text, which ConfigError takes for a list."""
    try:
        yield
    except ConfigError as error:
        raise ReaperError("; ".join(error.problems)) from None


def _settings() -> Settings:
    with _in_one_line():
        settings = load({}, os.environ)
    if not settings.sources:
        raise ReaperError("no database is configured: set REAPER_DATABASE_URL or REAPER_CONFIG for the worker")
    return settings


def _sources(settings: Settings, wanted: Iterable[SourceSettings]) -> list[Source]:
    with _in_one_line():
        return [create_one_off_source(settings, found) for found in wanted]


def _aged(settings: Settings, hours: float) -> list[SourceSettings]:
    """Past its timeout after so long, and silent after as long at the latest: as `reaper clear --max-age-hours`."""
    age = Threshold(_number("max_age_hours", hours, 0, _LONGEST_HOURS) * 3600, "max_age_hours")
    return [with_max_age(found, age) for found in settings.sources.values()]


def _number(name: str, value: object, least: float, most: float, *, whole: bool = False) -> float:
    """The argument of a task. Raises ValueError in words."""
    right = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if right and isinstance(value, (int, float)):
        above = value >= least if whole else value > least
        if above and value <= most and (not whole or value == int(value)):
            return value
    what = "a whole number from" if whole else "a number above"
    raise ValueError(f"{name}: expected {what} {least:g} {'to' if whole else 'and at most'} {most:g}, not {value!r}")


def _purgeable(found: SourceSettings) -> bool:
    try:
        require_purgeable(found.profile)
    except NotPurgeable:
        return False
    return True


def _operator() -> str:
    task = current_task.request.id if current_task else None
    return f"Celery task {task or 'called by hand'}@{socket.gethostname()}"


def _errors(answers: Sequence[SourceResult[Any]]) -> dict[str, str | None]:
    return {answer.source: answer.error for answer in answers}


def _told(summary: Mapping[str, Any], sources: Mapping[str, Any], errors: Mapping[str, str | None]) -> Document:
    wrong = {name: error for name, error in errors.items() if error is not None}
    if wrong and len(wrong) == len(errors):
        raise ReaperError("; ".join(f"source {name}: {error}" for name, error in wrong.items()))
    return {"summary": to_jsonable(summary), "sources": to_jsonable(sources), "errors": wrong}
