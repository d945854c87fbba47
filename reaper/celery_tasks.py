"""Celery tasks for installations that use Celery beat: the reaper's commands under the names that their users know.

Limitation: a reaper inside Celery waits in the queue that it repairs. When workers hang, the queue is full or beat is
down, these tasks wait with all the others: run `reaper run`, which stands outside, and use these beside it. While a
task runs in a `solo` worker, that worker cannot say what it executes; its jobs are then unknown, and spared. Best is a
worker for these tasks alone, on a queue for them alone.

Each task reads the reaper's own settings when it runs: REAPER_* variables of the worker's process, and the file that
REAPER_CONFIG names. The trouble of a source is in `errors` and keeps no other source from being worked on; a task fails
only when every source does.

    app.conf.imports = ["reaper.celery_tasks"]
    app.conf.beat_schedule = {
        "clear-stuck-jobs": {
            "task": "reaper.celery_tasks.clear_stuck_scheduler_jobs",
            "schedule": 7200.0,
            "kwargs": {"max_age_hours": 2, "dry_run": False},
        },
    }

Where other programs import the tasks from a module of the application, or beat sends them by its name, that module
(`app/tasks/cleanup_tasks.py`, for example) has two lines:

    from reaper.celery_tasks import tasks_named

    globals().update(tasks_named(__name__))
"""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from celery import current_task, shared_task

from reaper.common.json_values import to_jsonable
from reaper.common.terminal import clipped, shown, warn
from reaper.config import Settings, SourceSettings, load
from reaper.errors import ConfigError, NotPurgeable, ReaperError
from reaper.model import Threshold, Verdict
from reaper.observers.command_log import CommandLog
from reaper.operations.end_in_batches import BulkOptions
from reaper.operations.fail import ManualEnd
from reaper.operations.guards import GuardPasses, describe_halt, halt_guard
from reaper.operations.own_limits import count_for_command
from reaper.operations.purge import NullPurgeListener, PurgeOptions, purge, require_purgeable
from reaper.operations.report import ReportQuery, report_with_orphans, totals_of
from reaper.operations.reset import plan, reset, targets
from reaper.operations.sources import (
    SourceResult,
    create_one_off_sources,
    for_each_source,
    in_order_of_ending,
    new_downtime_tracker,
)
from reaper.source import Source
from reaper.source.factory import with_max_age
from reaper.sweep.source_state import SourceState
from reaper.sweep.summary import sweep_totals
from reaper.sweep.sweep import sweep

Document = dict[str, Any]
"""What a task returns: JSON."""

_MAX_LISTED = 100
_MAX_ID = 100
"""Characters of a Celery task's id, which a sender may choose, in the name of an operator."""
_MAX_HOURS = 87600


@shared_task
def clear_stuck_scheduler_jobs(
    max_age_hours: float = 2,
    dry_run: bool = False,
    while_halted: bool = False,
    release: int = 0,
    trust_silence: bool = False,
    while_observed: bool = False,
) -> Document:
    """End the jobs of every source that run for longer than `max_age_hours` and are silent: `reaper clear --yes`.

    The guards hold a sweep here too; its outcome is then `held` (breaker), `halted` or `observed`. The last four
    arguments pass them, as the options of `reaper clear` do. A halt is seen where the worker has the daemon's state
    directory (REAPER_STATE_DIR) or reaches its address (REAPER_HTTP_HOST, REAPER_HTTP_PORT). `summary` has
    `total_stuck_jobs` and how many were `cleared`, `sources` the report of each sweep. Raises ReaperError when
    no source could be swept.
    """
    passes = GuardPasses(
        while_halted is True,
        int(_number("release", release, 0, 1e9, whole=True)),
        trust_silence is True,
        while_observed is True,
    )
    settings = passes.applied_to(_settings())
    halt = halt_guard(settings, while_halted=passes.while_halted)
    options = passes.sweep_options(settings, halt, dry_run=bool(dry_run))
    asked = {source.name: source for source in _with_max_age(settings, max_age_hours)}
    reports = []
    with CommandLog(settings, _by("clear_stuck_scheduler_jobs")) as command_log:
        for source in _sources(settings, asked.values()):
            downtime = passes.downtime_tracker(settings)
            spared = count_for_command(settings, source, asked[source.name], downtime)
            report = sweep(source, downtime, SourceState(), options, None, command_log)
            reports.append(replace(report, own_limits=spared))
    totals = sweep_totals(reports)
    summary = {
        "total_stuck_jobs": totals.stale,
        "cleared": totals.reaped,
        "spared": totals.spared,
        "dry_run": bool(dry_run),
        "max_age_hours": max_age_hours,
        "halted": describe_halt(halt.held_by) if halt.held_by else None,
    }
    return _document(summary, {report.source: report for report in reports}, {r.source: r.error for r in reports})


@shared_task
def get_stuck_jobs_report(max_age_hours: float = 2) -> Document:
    """What is stuck, and what Celery executes for no job: `reaper report`. Changes nothing.

    `summary` has `total_stuck_jobs`, and which sources are not counted in full; `sources` has up to 100 stuck jobs of
    each, oldest first, with their evidence. Raises ReaperError when no source could be asked.
    """
    settings = _settings()
    query = ReportQuery(Verdict.STALE, None, _MAX_LISTED)
    sources = _sources(settings, _with_max_age(settings, max_age_hours))
    answers = for_each_source(sources, lambda source: report_with_orphans(settings, source, query), warn)
    reports = {answer.source: answer.value for answer in answers if answer.value}
    for name, report in reports.items():
        for note in report.notes:
            warn(f"source {name}: {note}")
    members = {
        name: {"census": report.census, "stuck_jobs": report.jobs, "more": report.more, "orphans": report.orphans or ()}
        for name, report in reports.items()
    }
    summary = {
        **to_jsonable(totals_of({answer.source: answer.value for answer in answers})),
        "max_age_hours": max_age_hours,
    }
    return _document(summary, members, _errors(answers))


@shared_task
def cleanup_old_task_runs_enhanced(
    days_to_keep: int = 30, batch_size: int = 1000, while_halted: bool = False, while_observed: bool = False
) -> Document:
    """Delete what finished more than `days_to_keep` ago, `batch_size` jobs a transaction: `reaper purge`.

    Never a job that runs, or that a running one needs. A source is left out when its profile does not say which jobs
    are finished. A halt holds it, as it holds `reaper purge`: the outcome is then `halted`; of an observed source it is
    `observed`. `summary` has `total_deleted`. Raises ReaperError when no source is left, or none could be purged.
    """
    settings = GuardPasses(while_observed=while_observed is True).applied_to(_settings())
    halt = halt_guard(settings, while_halted=while_halted is True)
    options = PurgeOptions(
        is_halted=halt.holds,
        days_to_keep=_number("days_to_keep", days_to_keep, 1, 3650, whole=True),
        batch_size=int(_number("batch_size", batch_size, 1, 100_000, whole=True)),
    )
    sources = _sources(settings, [source for source in settings.sources.values() if _is_purgeable(source)])
    if not sources:
        raise ReaperError("no source has a profile that says which jobs are finished")
    reports = [purge(source, options, NullPurgeListener()) for source in sources]
    summary = {
        "total_deleted": sum(report.purged for report in reports),
        "refused": sum(sum(report.refusals.values()) for report in reports),
        "days_to_keep": days_to_keep,
        "batch_size": batch_size,
        "halted": describe_halt(halt.held_by) if halt.held_by else None,
    }
    return _document(summary, {report.source: report for report in reports}, {r.source: r.error for r in reports})


@shared_task
def reset_scheduler_state(
    force: bool = False, all_sources: bool = False, while_halted: bool = False, while_observed: bool = False
) -> Document:
    """Emergency: end every running job of the sources of vuls, alive or not, and remove its task: `reaper reset`.

    Without `force` it only reports what it would end. `all_sources` means those of other profiles, too. `while_halted`
    and `while_observed` are as for `reaper reset`. `summary` has how many were running and `ended`, `sources` what
    became of their Celery tasks. The audit events name this task. Raises ReaperError without a source of vuls, when no
    source could be asked, and while a halt is in force or a source is only observed.
    """
    settings = GuardPasses(while_observed=while_observed is True).applied_to(_settings())
    selected = [source for source in settings.sources.values() if all_sources is True or source.profile.is_vuls]
    if not selected:
        raise ReaperError(
            "no source has the profile vuls or vuls-schedule, or extends it: nothing was changed; all_sources=True "
            "means the sources of every profile"
        )
    halt = halt_guard(settings, while_halted=while_halted is True)
    if force is True:
        halt.require_none()
    decision = ManualEnd(operator=_operator(), host=socket.gethostname(), reason="emergency reset")
    with _config_errors_as_one_text():
        by_name = {target.source.name: target for target in targets(settings, selected)}

    def end(source: Source) -> Document:
        target = by_name[source.name]
        with plan(target, new_downtime_tracker(settings), settings.batch_size, decision) as before:
            result = reset(before, new_downtime_tracker(settings), decision, options) if force is True else None
        return {
            "running": before.running,
            "kinds": before.kinds,
            "first": before.first,
            "toll": result.ended if result else None,
            "tasks": result.tasks if result else before.tasks,
        }

    with CommandLog(settings, _by("reset_scheduler_state")) as command_log:
        options = BulkOptions(decision.host, settings.batch_size, command_log, halt.holds)
        answers = for_each_source([target.source for target in by_name.values()], end, warn)
    members = {answer.source: answer.value for answer in answers if answer.value}
    results = [member["toll"] for member in members.values() if member["toll"]]
    summary = {
        "total_running": sum(member["running"] for member in members.values()),
        "ended": sum(result.reaped for result in results),
        "force": force is True,
    }
    return _document(summary, members, _errors(answers))


def _by(task: str) -> str:
    return f"the Celery task {task} on {socket.gethostname()}"


def tasks_named(module: str) -> dict[str, Any]:
    """The four tasks, by name, as tasks of this module: for beat, and for programs that import them from there."""
    tasks = (clear_stuck_scheduler_jobs, get_stuck_jobs_report, cleanup_old_task_runs_enhanced, reset_scheduler_state)
    names = [str(task.name).rpartition(".")[2] for task in tasks]
    return {name: shared_task(name=f"{module}.{name}")(task.run) for name, task in zip(names, tasks, strict=True)}


@contextmanager
def _config_errors_as_one_text() -> Iterator[None]:
    """Raises ConfigError as ReaperError: Celery rebuilds an error from its text, and ConfigError would take a list."""
    try:
        yield
    except ConfigError as error:
        raise ReaperError("; ".join(error.problems)) from None


def _settings() -> Settings:
    with _config_errors_as_one_text():
        settings = load({}, os.environ)
    if settings.without_sources:
        raise ReaperError(f"{settings.origins['sources']}: sources: [] leaves no source to work on")
    if not settings.sources:
        raise ReaperError("no database is configured: set REAPER_DATABASE_URL or REAPER_CONFIG for the worker")
    return settings


def _sources(settings: Settings, source_settings: Iterable[SourceSettings]) -> list[Source]:
    with _config_errors_as_one_text():
        return in_order_of_ending(create_one_off_sources(settings, source_settings))


def _with_max_age(settings: Settings, hours: float) -> list[SourceSettings]:
    """The sources with this timeout, and no longer stall window, as for `reaper clear --max-age-hours`."""
    age = Threshold(_number("max_age_hours", hours, 0, _MAX_HOURS) * 3600, "max_age_hours")
    return [with_max_age(source, age) for source in settings.sources.values()]


def _number(name: str, value: object, least: float, most: float, *, whole: bool = False) -> float:
    """The argument of a task. Raises ValueError, saying what was expected."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if is_number and isinstance(value, (int, float)):
        above = value >= least if whole else value > least
        if above and value <= most and (not whole or value == int(value)):
            return value
    what = "a whole number from" if whole else "a number above"
    raise ValueError(f"{name}: expected {what} {least:g} {'to' if whole else 'and at most'} {most:g}, not {value!r}")


def _is_purgeable(source: SourceSettings) -> bool:
    try:
        require_purgeable(source.profile)
    except NotPurgeable:
        return False
    return True


def _operator() -> str:
    task = current_task.request.id if current_task else None
    return f"Celery task {shown(clipped(task, _MAX_ID)) if task else 'called by hand'}@{socket.gethostname()}"


def _errors(answers: Sequence[SourceResult[Any]]) -> dict[str, str | None]:
    return {answer.source: answer.error for answer in answers}


def _document(summary: Mapping[str, Any], sources: Mapping[str, Any], errors: Mapping[str, str | None]) -> Document:
    """The result of a task. Raises ReaperError when every source has an error."""
    failed = {name: error for name, error in errors.items() if error is not None}
    if failed and len(failed) == len(errors):
        raise ReaperError("; ".join(f"source {name}: {error}" for name, error in failed.items()))
    return {"summary": to_jsonable(summary), "sources": to_jsonable(sources), "errors": failed}
