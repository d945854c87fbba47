"""What became of the jobs of a batch, and the check that each has its transition and its audit event."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from reaper.errors import PartialTransition
from reaper.model import Key
from reaper.profile import Action, Profile


class EndedJob(NamedTuple):
    """One job that was ended by `action`. Durations are seconds; `task` is its id in Celery.

    `evidence` is what it was ended for, where nothing of that stays in the database.
    """

    key: Key
    kind: str | None
    age: float | None
    silence: float | None
    witness: str | None
    task: str | None
    evidence: Mapping[str, Any] | None
    action: Action


@dataclass(frozen=True, slots=True)
class RowCounts:
    """How many jobs were to be ended, how many were, and how many rows each insert of the action wrote.

    `due` has the rows that those inserts were to write that do not write one for each ended job.
    """

    to_end: int
    ended: int
    inserted: Mapping[int, int]
    due: Mapping[int, int] = field(default_factory=dict)


def check_complete(profile: Profile, action: Action, counts: RowCounts) -> None:
    """Raises PartialTransition when rows are missing: a trigger or rule of the user may drop one without an error."""
    table = profile.jobs.table
    if counts.to_end != counts.ended:
        raise PartialTransition(
            f"{table}: {counts.to_end} rows are stale and {counts.ended} changed so that they no longer run: a trigger "
            "or rule interferes, or the action changes nothing that jobs.running asks about"
        )
    for n, written in counts.inserted.items():
        due = counts.due.get(n, counts.ended)
        if written != due:
            raise PartialTransition(
                f"{action.also[n].table}: {written} rows written for {due} changed ones of {table}: "
                "a trigger or rule interferes"
            )
