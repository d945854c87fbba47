"""Orphans: tasks that Celery's workers execute, and that no source has a row for.

A task may be younger than its row, which is committed a moment after the task was sent: only what is still an orphan
some seconds later counts. Sources that share a broker share its tasks: an orphan is one that none of them knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from reaper.hearing import Hearing
from reaper.profile.places import owning
from reaper.source import Source
from reaper.witness import Testimony, Witness, WitnessAway

SEEN_SECONDS = 3.0
"""For how long a task must have been without a row."""

OWN_TASKS = frozenset(
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


def orphans(source: Source, connection: Connection, testimony: Testimony) -> list[Orphan]:
    """What is being executed and has no row here, whatever its state, inside the caller's transaction."""
    found = _executing(testimony)
    known = source.reading.tasks(connection, found) if found else set[str]()
    return [orphan for orphan in found.values() if orphan.id not in known]


def lasting(
    sources: Sequence[Source], testimony: Testimony, hearing: Callable[[], Hearing], wait: Callable[[float], object]
) -> list[Orphan]:
    """Those that none of the sources of one broker has a row for, not even some seconds later.

    Raises WitnessAway when it cannot be asked again; DatabaseAway and DBAPIError when a source cannot, RowsHidden when
    it may not be shown them all: what it knows, nobody else does.
    """
    first = _of_all(sources, testimony, hearing)
    if not first:
        return []
    wait(SEEN_SECONDS)
    return _still(sources, first, hearing)


def revoke(sources: Sequence[Source], chosen: Iterable[Orphan], hearing: Callable[[], Hearing]) -> list[Orphan]:
    """Have the workers end these, as far as they still are orphans; tells which. Raises as `lasting` does."""
    left = _still(sources, chosen, hearing)
    if left:
        _witness(sources).revoke([orphan.id for orphan in left])
    return left


def _still(sources: Sequence[Source], seen: Iterable[Orphan], hearing: Callable[[], Hearing]) -> list[Orphan]:
    testimony = _witness(sources).ask()
    if testimony.trouble is not None:
        raise WitnessAway(testimony.trouble)
    now = set(_of_all(sources, testimony, hearing))
    return [orphan for orphan in seen if orphan in now]


def _of_all(sources: Sequence[Source], testimony: Testimony, hearing: Callable[[], Hearing]) -> list[Orphan]:
    left = _executing(testimony)
    for source in sources:
        if not left:
            break
        with source.connect() as connection:
            source.meet(connection, hearing())
            with source.transaction(connection, read_only=True):
                source.insist_on(connection, owning(source.profile), _NOT_NOBODYS)
                here = {orphan.id for orphan in orphans(source, connection, testimony)}
        left = {id_: orphan for id_, orphan in left.items() if id_ in here}
    return list(left.values())


def _executing(testimony: Testimony) -> Mapping[str, Orphan]:
    found = (Orphan(id_, testimony.names.get(id_), worker) for id_, worker in sorted(testimony.executing.items()))
    return {orphan.id: orphan for orphan in found if (orphan.task or "").rpartition(".")[2] not in OWN_TASKS}


def _witness(sources: Sequence[Source]) -> Witness:
    witness = next((source.habits.witness for source in sources if source.habits.witness), None)
    if witness is None:
        raise WitnessAway("there is nobody to ask")
    return witness
