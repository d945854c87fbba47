"""Orphaned tasks: tasks that Celery's workers execute although no source has a row for them.

A task may be sent a moment before its row is committed: only a task that is still an orphan some seconds later counts.
Sources that share a broker share its tasks: an orphan is a task that none of them has a row for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from reaper.common.terminal import clipped
from reaper.config import Settings
from reaper.errors import ProbeUnavailable
from reaper.liveness import LivenessProbe, LivenessReport
from reaper.operations.source_errors import prefix_errors
from reaper.operations.sources import create_one_off_source, new_downtime_tracker
from reaper.profile.related_tables import task_tables
from reaper.source import Source
from reaper.source.factory import on_same_broker
from reaper.staleness.downtime import DowntimeTracker

CONFIRM_SECONDS = 3.0
"""How long after the first look a task must still be without a row."""

REAPER_TASKS = frozenset(
    {
        "clear_stuck_scheduler_jobs",
        "get_stuck_jobs_report",
        "cleanup_old_task_runs_enhanced",
        "reset_scheduler_state",
    }
)
"""The reaper's own tasks, whatever module they are imported from: no source has rows for them."""

_ROWS_MAY_BE_HIDDEN = "a task whose row is hidden would look like an orphan, so no task is treated as one"


@dataclass(frozen=True, slots=True)
class Orphan:
    """A task that a worker executes, and that belongs to no job."""

    id: str
    task: str | None
    worker: str


def describe_orphan(orphan: Orphan) -> str:
    name = f" ({clipped(orphan.task, 200)})" if orphan.task else ""
    return f"Orphan: task {orphan.id}{name} is being executed by {orphan.worker}, and no job knows it"


# --- by the settings ---------------------------------------------------------------------------------------------


def find_orphans(settings: Settings, source: Source, liveness: LivenessReport | None = None) -> list[Orphan]:
    """The orphans of the broker of this source; none where it has no broker. Workers are asked unless `liveness` is.

    Raises ProbeUnavailable when the workers cannot be asked; DatabaseUnavailable or ReaperError when one of the sources
    that share the broker cannot.
    """
    probe = source.options.probe
    if probe is None:
        return []
    with prefix_errors(source):
        report = liveness or probe.ask()
        if report.trouble is not None:
            raise ProbeUnavailable(report.trouble)
        sources = _sources_of_broker(settings, source)
        return confirmed_orphans(sources, report, lambda: new_downtime_tracker(settings), time.sleep)


def revoke_orphans(settings: Settings, source: Source, chosen: Sequence[Orphan]) -> list[Orphan]:
    """Revoke the chosen tasks that are still orphans; returns them.

    Raises SourceObserved, and as `find_orphans` does.
    """
    source.require_not_observed()
    with prefix_errors(source):
        return revoke(_sources_of_broker(settings, source), chosen, lambda: new_downtime_tracker(settings))


def one_per_broker(settings: Settings, sources: Iterable[Source]) -> Iterator[Source]:
    """The first source of each broker."""
    seen = set[str | None]()
    for source in sources:
        broker = settings.sources[source.name].broker
        url = broker.get_secret_value() if broker else None
        if source.options.probe is not None and url not in seen:
            seen.add(url)
            yield source


def _sources_of_broker(settings: Settings, source: Source) -> list[Source]:
    """The source itself first: its probe asks the workers."""
    others = (other for other in on_same_broker(settings, source.name) if other.name != source.name)
    return [source, *(create_one_off_source(settings, other) for other in others)]


# --- by the sources of one broker --------------------------------------------------------------------------------


def orphans(source: Source, connection: Connection, liveness: LivenessReport) -> list[Orphan]:
    """The tasks that are executed and have no row here, whatever its state, inside the caller's transaction."""
    executing = _executing(liveness)
    with_row = source.lookup.existing_tasks(connection, executing) if executing else set[str]()
    return [orphan for orphan in executing.values() if orphan.id not in with_row]


def confirmed_orphans(
    sources: Sequence[Source],
    liveness: LivenessReport,
    new_tracker: Callable[[], DowntimeTracker],
    wait: Callable[[float], object],
) -> list[Orphan]:
    """The tasks that none of the sources of one broker has a row for, neither now nor CONFIRM_SECONDS later.

    Raises ProbeUnavailable when the workers cannot be asked again; DatabaseUnavailable and DBAPIError when a source
    cannot be asked, RowsHidden when row-level security may hide rows from its role.
    """
    first = orphans_of_all(sources, liveness, new_tracker)
    if not first:
        return []
    wait(CONFIRM_SECONDS)
    return _still_orphaned(sources, first, new_tracker)


def revoke(
    sources: Sequence[Source], chosen: Iterable[Orphan], new_tracker: Callable[[], DowntimeTracker]
) -> list[Orphan]:
    """Revoke the chosen tasks that are still orphans; returns them. Raises as `confirmed_orphans` does."""
    remaining = _still_orphaned(sources, chosen, new_tracker)
    if remaining:
        _probe(sources).revoke([orphan.id for orphan in remaining])
    return remaining


def _still_orphaned(
    sources: Sequence[Source], earlier: Iterable[Orphan], new_tracker: Callable[[], DowntimeTracker]
) -> list[Orphan]:
    liveness = _probe(sources).ask()
    if liveness.trouble is not None:
        raise ProbeUnavailable(liveness.trouble)
    now = set(orphans_of_all(sources, liveness, new_tracker))
    return [orphan for orphan in earlier if orphan in now]


def orphans_of_all(
    sources: Sequence[Source], liveness: LivenessReport, new_tracker: Callable[[], DowntimeTracker]
) -> list[Orphan]:
    """The tasks that are executed and that none of the sources of one broker has a row for now.

    Raises DatabaseUnavailable and DBAPIError when a source cannot be asked, RowsHidden as `confirmed_orphans` does.
    """
    remaining = _executing(liveness)
    for source in sources:
        if not remaining:
            break
        with source.connect() as connection:
            source.begin_evaluation(connection, new_tracker())
            with source.transaction(connection, read_only=True):
                source.require_visible_rows(connection, task_tables(source.profile), _ROWS_MAY_BE_HIDDEN)
                without_row = {orphan.id for orphan in orphans(source, connection, liveness)}
        remaining = {id_: orphan for id_, orphan in remaining.items() if id_ in without_row}
    return list(remaining.values())


def _executing(liveness: LivenessReport) -> Mapping[str, Orphan]:
    tasks = (Orphan(id_, liveness.names.get(id_), worker) for id_, worker in sorted(liveness.executing.items()))
    return {task.id: task for task in tasks if (task.task or "").rpartition(".")[2] not in REAPER_TASKS}


def _probe(sources: Sequence[Source]) -> LivenessProbe:
    probe = next((source.options.probe for source in sources if source.options.probe), None)
    if probe is None:
        raise ProbeUnavailable("no source has a Celery broker")
    return probe
