"""What became of the jobs of a batch, and whether all that belongs together was done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from reaper.errors import PartialTransition
from reaper.model import Key
from reaper.profile import Action, Profile


class EndedJob(NamedTuple):
    """One job that has been ended by `action`. Durations are seconds; `task` is its id in Celery.

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
    """How many jobs were stale, how many of them ended, and how many rows each insert of the action wrote."""

    judged: int
    ended: int
    inserted: Mapping[int, int]


def check_complete(profile: Profile, action: Action, changed: RowCounts) -> None:
    """A trigger or rule of the user's may swallow a row without a word. Raises HalfDone when one has."""
    table = profile.jobs.table
    if changed.judged != changed.ended:
        raise PartialTransition(
            f"{table}: {changed.judged} rows are stale and {changed.ended} changed: a trigger or rule interferes"
        )
    for n, written in changed.inserted.items():
        if written != changed.ended:
            raise PartialTransition(
                f"{action.also[n].table}: {written} rows written for {changed.ended} changed ones of {table}: "
                "a trigger or rule interferes"
            )
