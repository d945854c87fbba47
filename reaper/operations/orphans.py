"""Orphans: tasks that Celery's workers execute, and that no source has a row for.

A task may be younger than its row, which is committed a moment after the task was sent: only what is still an orphan
some seconds later counts. Sources that share a broker share its tasks: an orphan is one that none of them knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from reaper.errors import ProbeUnavailable
from reaper.liveness import LivenessProbe, LivenessReport
from reaper.profile.related_tables import task_tables
from reaper.source import Source
from reaper.staleness.downtime import DowntimeTracker

SEEN_SECONDS = 3.0
"""For how long a task must have been without a row."""

REAPER_TASKS = frozenset(
    {
        "clear_stuck_scheduler_jobs",
        "get_stuck_jobs_report",
        "cleanup_old_task_runs_enhanced",
        "reset_scheduler_state",
    }
)
"""The reaper's own tasks, whatever module they are imported from: nobody makes rows for them."""

_NOT_NOBODYS = "a task whose row is not seen is not nobody's, so none is taken for an orphan"


@dataclass(frozen=True, slots=True)
class Orphan:
    """A task that is being executed, and belongs to no job."""

    id: str
    task: str | None
    worker: str


def orphans(source: Source, connection: Connection, liveness: LivenessReport) -> list[Orphan]:
    """What is being executed and has no row here, whatever its state, inside the caller's transaction."""
    found = _executing(liveness)
    known = source.lookup.existing_tasks(connection, found) if found else set[str]()
    return [orphan for orphan in found.values() if orphan.id not in known]


def confirmed_orphans(
    sources: Sequence[Source],
    liveness: LivenessReport,
    downtime: Callable[[], DowntimeTracker],
    wait: Callable[[float], object],
) -> list[Orphan]:
    """Those that none of the sources of one broker has a row for, not even some seconds later.

    Raises WitnessAway when it cannot be asked again; DatabaseAway and DBAPIError when a source cannot, RowsHidden when
    it may not be shown them all: what it knows, nobody else does.
    """
    first = _of_all(sources, liveness, downtime)
    if not first:
        return []
    wait(SEEN_SECONDS)
    return _still(sources, first, downtime)


def revoke(
    sources: Sequence[Source], chosen: Iterable[Orphan], downtime: Callable[[], DowntimeTracker]
) -> list[Orphan]:
    """Have the workers end these, as far as they still are orphans; tells which. Raises as `lasting` does."""
    left = _still(sources, chosen, downtime)
    if left:
        _witness(sources).revoke([orphan.id for orphan in left])
    return left


def _still(sources: Sequence[Source], seen: Iterable[Orphan], downtime: Callable[[], DowntimeTracker]) -> list[Orphan]:
    liveness = _witness(sources).ask()
    if liveness.trouble is not None:
        raise ProbeUnavailable(liveness.trouble)
    now = set(_of_all(sources, liveness, downtime))
    return [orphan for orphan in seen if orphan in now]


def _of_all(
    sources: Sequence[Source], liveness: LivenessReport, downtime: Callable[[], DowntimeTracker]
) -> list[Orphan]:
    left = _executing(liveness)
    for source in sources:
        if not left:
            break
        with source.connect() as connection:
            source.begin_evaluation(connection, downtime())
            with source.transaction(connection, read_only=True):
                source.require_visible_rows(connection, task_tables(source.profile), _NOT_NOBODYS)
                here = {orphan.id for orphan in orphans(source, connection, liveness)}
        left = {id_: orphan for id_, orphan in left.items() if id_ in here}
    return list(left.values())


def _executing(liveness: LivenessReport) -> Mapping[str, Orphan]:
    found = (Orphan(id_, liveness.names.get(id_), worker) for id_, worker in sorted(liveness.executing.items()))
    return {orphan.id: orphan for orphan in found if (orphan.task or "").rpartition(".")[2] not in REAPER_TASKS}


def _witness(sources: Sequence[Source]) -> LivenessProbe:
    witness = next((source.options.probe for source in sources if source.options.probe), None)
    if witness is None:
        raise ProbeUnavailable("there is nobody to ask")
    return witness
